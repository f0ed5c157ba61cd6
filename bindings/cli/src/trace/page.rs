//! The page of a trace: one HTML file that needs nothing beside it. Knows what the numbers mean to
//! people.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pocketmuse::Trace;

use super::{
    charts::mean,
    data::{Chart, Data},
    heat, verdict,
};

/// How the page begins.
pub(super) const START: &str = "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
<title>Looking inside</title>";

const STYLE: &str = "
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; \
padding: 0 1rem; color: #222; background: #fff }
table { border-collapse: collapse; width: 100% } td, th { padding: .3rem .6rem; \
text-align: left; border-top: 1px solid #ddd; vertical-align: top }
img { max-width: 100%; image-rendering: pixelated } .prompt span { padding: .1rem .25rem; \
border-radius: .2rem } .quiet { color: #666 }
td:nth-child(3) { white-space: nowrap } details { margin: .4rem 0 } .bar { \
display: inline-block; height: .7rem; background: #dd513a }";

const HOW_TO_READ: &str = "
<p>The model starts from a grid of masked tokens. At every step it draws a token for each masked
position, keeps the surest and masks the rest again. At each of these looks its layers ask, for
every position of the image, which tokens of the prompt matter: that is the attention shown here,
the mean of all cross-attentions and heads.</p>
<ul>
<li>A word with <b>little attention</b> had little to say: other words outweighed it. Put it first,
say it with fewer words around it, or raise the guidance scale.</li>
<li>A word read as <b>several pieces</b> is not in the vocabulary. However much it was looked for,
the model may not know it; where another word is looked for in the same place, it drew the
other.</li>
<li>A word that was <b>cut off</b> never reached the model.</li>
<li>A word with <b>attention in one place</b> that is still not to be seen was asked for and not
drawn: look at the steps, at how sure the model was there, and try another seed or more steps.</li>
<li>Short words such as “a” or “by” get little in every prompt. Attention to the tokens after the
prompt, its end and the padding, is attention to the prompt as a whole: the text encoder gathers it
there.</li>
</ul>";

/// The page.
pub(super) fn html(data: &Data<'_>, charts: &[Vec<Chart>]) -> String {
    let request = data.request;
    let guidance = request.guidance_scale.unwrap_or(1.0);
    let mut page = format!(
        "{START}<style>{STYLE}</style>\n\
         <h1>Looking inside</h1>\n<p class=\"quiet\">{}, seed {}, {} steps, \
         guidance scale {guidance}, sampler {}</p>\n",
        escaped(data.model),
        request.seed,
        request.num_inference_steps.unwrap_or(0),
        request.sampler,
    );
    if guidance <= 1.0 {
        page.push_str(
            "<p><b>Guidance is off:</b> no word steers strongly. Try a guidance scale above \
             1.</p>\n",
        );
    }
    page.push_str(&unseen(data.trace.unseen_steps));
    for (image, of_image) in charts.iter().enumerate() {
        if charts.len() > 1 {
            page.push_str(&format!("<h2>Image {image}</h2>\n"));
        }
        page.push_str(&words(data, image, of_image));
        page.push_str(&steps(data.trace, image, of_image));
    }
    page.push_str("<h2>How to read this</h2>");
    page.push_str(HOW_TO_READ);
    page.push_str("\n</html>\n");
    page
}

/// What a reader must know of a trace that does not begin with the first step.
fn unseen(steps: usize) -> String {
    if steps == 0 {
        return String::new();
    }
    let made = if steps == 1 { "one step was".to_owned() } else { format!("{steps} steps were") };
    format!(
        "<p><b>This is not the whole story:</b> {made} made before the job was resumed, and nobody \
         looked inside. All maps, shares and sentences are of the steps after, and tokens that \
         were fixed before are grey. What is drawn where is settled early: a word that looks \
         ignored here may have been heeded then. To see all, make the image again from the start \
         with <code>--trace</code>; it will be the same.</p>\n"
    )
}

/// The prompt's words: how much each was looked at, and where.
fn words(data: &Data<'_>, image: usize, charts: &[Chart]) -> String {
    let trace = data.trace;
    let shares = &data.shares[image];
    let mut html = missing(data, image) + "<h2>Words</h2>\n<p class=\"prompt\">";
    for (word, share) in trace.words.iter().zip(shares) {
        let strength = share.unwrap_or(0.0) / 2.0;
        let [r, g, b] = heat::colour(strength).0;
        let ink = if strength > 0.6 { "#000" } else { "#fff" };
        let text = escaped(&word.text);
        html.push_str(&format!(
            "<span style=\"background:rgb({r},{g},{b});color:{ink}\">{text}</span> "
        ));
    }
    html.push_str("</p>\n");
    if trace.images[image].is_empty() {
        html.push_str("<p>No step was run, so there is nothing to see.</p>\n");
    } else if trace.has_attention {
        html.push_str(
            "<p>The lighter a word, the more the model looked for it; the lighter a place in its \
             map, the more it looked for it there. All maps have one scale.</p>\n",
        );
    } else {
        html.push_str(
            "<p>There are no maps of words: this package was exported before attention could be \
             looked at. Export the checkpoint again to see them.</p>\n",
        );
    }
    html.push_str(
        &charts.iter().filter(|chart| chart.name.ends_with("words")).map(img).collect::<String>(),
    );
    html.push_str(
        "<table><tr><th>word</th><th>tokens</th><th>attention</th><th>what that means</th></tr>\n",
    );
    for (index, word) in trace.words.iter().enumerate() {
        let share = shares[index].map_or_else(String::new, |share| {
            let width = (share.min(4.0) * 30.0).round();
            format!("{share:.2} <span class=\"bar\" style=\"width:{width}px\"></span>")
        });
        html.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td>{share}</td><td>{}{}</td></tr>\n",
            escaped(&word.text),
            escaped(&word.pieces.join(" + ")),
            escaped(&data.verdicts[image][index]),
            charts.iter().filter(|chart| is_of_word(chart, index)).map(by_step).collect::<String>(),
        ));
    }
    html.push_str("</table>\n");
    html.push_str(&rest(trace, image));
    html
}

/// The words to look at first if the image lacks something.
fn missing(data: &Data<'_>, image: usize) -> String {
    let doubtful: Vec<_> = (0..data.trace.words.len())
        .filter(|word| verdict::is_doubtful(data.trace, image, *word))
        .collect();
    let mut html = String::from("<h2>If something is missing</h2>\n");
    if doubtful.is_empty() {
        html.push_str(
            "<p>No word was ignored. What is missing was asked for and not drawn: look at the \
             steps below, and try another seed or more steps.</p>\n",
        );
        return html;
    }
    html.push_str("<p>These words may be why:</p>\n<ul>\n");
    for word in doubtful {
        let [text, verdict] =
            [&data.trace.words[word].text, &data.verdicts[image][word]].map(|text| escaped(text));
        html.push_str(&format!("<li><b>{text}</b>: {verdict}</li>\n"));
    }
    html + "</ul>\n"
}

fn is_of_word(chart: &Chart, index: usize) -> bool {
    chart.name.contains(&format!("word-{:02}-", index + 1))
}

fn by_step(chart: &Chart) -> String {
    format!("<details><summary>step by step</summary>{}</details>", img(chart))
}

/// What attention went to no word.
fn rest(trace: &Trace, image: usize) -> String {
    let rests: Vec<_> = trace.images[image].iter().map(|step| step.rest).collect();
    if !trace.has_attention || rests.is_empty() {
        return String::new();
    }
    let percent = |of: fn(&pocketmuse::trace::Rest) -> f32| {
        format!("{:.0}%", 100.0 * rests.iter().map(of).sum::<f32>() / rests.len() as f32)
    };
    format!(
        "<p class=\"quiet\">Of all attention {} went to the token before the prompt (where it goes \
         when nothing calls for it), {} to those after it (the prompt as a whole), and the rest to \
         the words.</p>\n",
        percent(|rest| rest.begin),
        percent(|rest| rest.end + rest.padding)
    )
}

/// What each step fixed, and how sure the model was.
fn steps(trace: &Trace, image: usize, charts: &[Chart]) -> String {
    let fixed = trace.fixed(image);
    let mut html = String::from(
        "<h2>Steps</h2>\n<p>Left: tokens fixed so far, the lighter the later. Middle: the \
         probability of each drawn token. Right: how undecided the model was. Grey: nothing was \
         drawn there.</p>\n",
    );
    html.push_str(
        &charts.iter().filter(|chart| chart.name.ends_with("steps")).map(img).collect::<String>(),
    );
    html.push_str(
        "<table><tr><th>step</th><th>drawn</th><th>fixed</th><th>mean probability</th>\
         <th>mean entropy</th></tr>\n",
    );
    for step in &trace.images[image] {
        html.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.2}</td><td>{:.1} bits</td></tr>\n",
            step.step + 1,
            step.confidence.iter().flatten().count(),
            fixed.iter().filter(|fixed| **fixed == Some(step.step)).count(),
            mean(&step.confidence),
            mean(&step.entropy),
        ));
    }
    html.push_str("</table>\n");
    html
}

fn img(chart: &Chart) -> String {
    format!(
        "<img alt=\"{}\" src=\"data:image/png;base64,{}\">\n",
        escaped(&chart.name),
        STANDARD.encode(&chart.png)
    )
}

/// Text that HTML takes for text.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_that_it_is_one() {
        assert_eq!(unseen(0), "");
        assert!(
            unseen(1).contains("one step was made before")
                && unseen(3).contains("3 steps were made before")
        );
    }

    #[test]
    fn a_prompt_is_text_and_no_page() {
        assert_eq!(
            escaped("<script>\"a\" & 'b'</script>"),
            "&lt;script&gt;&quot;a&quot; &amp; 'b'&lt;/script&gt;"
        );
    }
}
