//! Command lines as people of other programs type them: an image without a command, underscores, a
//! prompt behind `-p`, an image behind `-i`. They become lines of this one; for a flag that means
//! nothing here there is a tip. Knows words, not values.

use std::ffi::{OsStr, OsString};

/// What can stand before a command.
const GLOBAL: [&str; 5] = ["--offline", "--help", "-h", "--version", "-V"];
/// The commands that take prompts.
const PROMPTED: [&str; 4] = ["generate", "edit", "grid", "video"];
/// What other programs call a prompt, and the image to start from.
const PROMPT: [&str; 2] = ["-p", "--prompt"];
const IMAGE: [&str; 6] =
    ["-i", "--init-img", "--init-image", "--init-images", "--input", "--input-image"];

/// Flags of diffusers, stable-diffusion.cpp, A1111 and others that no flag here is another name for,
/// and what to do instead.
const TIPS: [(&[&str], &str); 13] = [
    (
        &["sampler-name", "sampler-index", "sampling-method", "scheduler", "sample-method"],
        "--sampler confidence or --sampler halton says how tokens are chosen",
    ),
    (&["schedule", "noise-schedule", "sigmas"], "--masking-schedule cosine or linear"),
    (&["eta", "noise", "ddim-eta"], "--temperature FIRST,LAST is the noise of each step's choice"),
    (
        &["device", "gpu", "cuda", "cpu", "n-gpu-layers", "offload-to-cpu", "medvram", "lowvram"],
        "it runs on the processor: see --threads COUNT and --memory SIZE",
    ),
    (
        &["type", "precision", "dtype", "torch-dtype", "fp16", "half", "quantize", "variant"],
        "--flavour f32, int8 or int4 chooses among the package's graphs",
    ),
    (&["size", "resolution", "res"], "--width PIXELS --height PIXELS"),
    (&["outdir", "output-dir", "output-folder", "out-dir"], "-o FOLDER/"),
    (
        &["prompt-file", "prompts-file", "from-file", "prompts-from-file"],
        "--prompts FILE.txt makes an image for each line",
    ),
    (&["tiling", "tile", "seamless"], "--tileable both"),
    (
        &["ckpt", "checkpoint", "model-path", "diffusion-model", "pretrained-model-name-or-path"],
        "`pocketmuse export CHECKPOINT -o PACKAGE` makes a package for --package",
    ),
    (
        &["lora", "lora-model-dir", "control-net", "control-image", "vae", "taesd", "embd-dir"],
        "a package is all of its model: nothing is added to it when it runs",
    ),
    (
        &[
            "clip-skip",
            "hires-fix",
            "enable-hr",
            "upscale",
            "upscale-model",
            "restore-faces",
            "vae-tiling",
        ],
        "aMUSEd models have no such part; leave it out",
    ),
    (
        &["mode", "img2img", "image", "i", "init-img", "init-image", "input", "input-image"],
        "`pocketmuse edit IMAGE PROMPT` starts from an image",
    ),
];

/// The line as this program reads it. `is_command` knows the commands' names.
pub(crate) fn translate(
    line: impl IntoIterator<Item = OsString>,
    is_command: impl Fn(&str) -> bool,
) -> Vec<OsString> {
    let mut line: Vec<_> = with_dashes(line);
    let first = line.get(1).and_then(|word| word.to_str()).unwrap_or_default();
    let is_flag = first.starts_with('-') && !GLOBAL.contains(&first);
    let is_prompt = first.contains(char::is_whitespace) && !first.starts_with('-');
    if (is_flag && first != "--") || (is_prompt && !is_command(first)) {
        let edits = line.iter().any(|word| IMAGE.iter().any(|name| names(word, name).is_some()));
        line.insert(1, if edits { "edit" } else { "generate" }.into());
    }
    let command = line.iter().skip(1).position(|word| word.to_str().is_some_and(&is_command));
    let Some(command) = command.map(|at| at + 1) else { return line };
    if !PROMPTED.iter().any(|name| line[command] == *name) {
        return line;
    }
    if let Some(prompt) = taken(&mut line, command + 1, &PROMPT) {
        if !line.iter().any(|word| word == "--") {
            line.push("--".into());
        }
        line.push(prompt);
    }
    if line[command] == "edit"
        && let Some(image) = taken(&mut line, command + 1, &IMAGE)
    {
        line.insert(command + 1, image);
    }
    line
}

/// The tip for a flag that is not known.
pub(crate) fn tip(flag: &str) -> Option<&'static str> {
    let name = flag.trim_start_matches('-');
    TIPS.iter().find(|(names, _)| names.contains(&name)).map(|(_, tip)| *tip)
}

/// Flags with dashes for underscores, up to a `--`.
fn with_dashes(line: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut is_over = false;
    let dashed = |word: OsString| {
        is_over |= word == "--";
        let Some(text) = word.to_str().filter(|text| text.starts_with("--") && !is_over) else {
            return word;
        };
        let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
        if name.contains(char::is_whitespace) {
            return word;
        }
        (name.replace('_', "-") + value).into()
    };
    line.into_iter().map(dashed).collect()
}

/// Takes the first of these flags out of a line, and returns its value.
fn taken(line: &mut Vec<OsString>, from: usize, flags: &[&str]) -> Option<OsString> {
    let end = line.iter().position(|word| word == "--").unwrap_or(line.len());
    let found = (from..end).find_map(|at| {
        let value = flags.iter().find_map(|flag| names(&line[at], flag))?;
        Some((at, value))
    });
    let (at, inside) = found?;
    if inside.is_none() && at + 1 >= end {
        return None; // its value is missing, as the parser will say
    }
    let word = line.remove(at);
    Some(match inside {
        Some(start) => {
            let text = word.to_str().unwrap_or_default();
            text[start..].into()
        }
        None => line.remove(at),
    })
}

/// Whether a word is this flag; and if its value is in the same word, where that begins.
fn names(word: &OsStr, flag: &str) -> Option<Option<usize>> {
    let rest = word.to_str()?.strip_prefix(flag)?;
    match (rest.is_empty(), flag.starts_with("--"), rest.starts_with('=')) {
        (true, _, _) => Some(None),
        (_, _, true) => Some(Some(flag.len() + 1)),
        (_, false, _) => Some(Some(flag.len())),
        (_, true, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(words: &[&str]) -> Vec<String> {
        let line = ["pocketmuse"].iter().chain(words).map(OsString::from);
        let is_command = |word: &str| {
            PROMPTED.contains(&word) || ["setup", "help", "package", "resume"].contains(&word)
        };
        let words = translate(line, is_command).into_iter().skip(1);
        words.map(|word| word.into_string().expect("UTF-8")).collect()
    }

    #[test]
    fn lines_of_other_programs_become_ours() {
        let cases: [(&[&str], &[&str]); 19] = [
            (&["a red house"], &["generate", "a red house"]),
            (&["-p", "a cat", "-s", "3"], &["generate", "-s", "3", "--", "a cat"]),
            (&["--prompt=a cat", "-o", "a.png"], &["generate", "-o", "a.png", "--", "a cat"]),
            (&["--prompt", "-1", "--steps", "4"], &["generate", "--steps", "4", "--", "-1"]),
            (&["generate", "-pa cat"], &["generate", "--", "a cat"]),
            (
                &["-i", "a.png", "-p", "a cat", "--strength", "0.5"],
                &["edit", "a.png", "--strength", "0.5", "--", "a cat"],
            ),
            (&["edit", "-i", "a.png", "a cat"], &["edit", "a.png", "a cat"]),
            (&["edit", "a.png", "--prompt", "a cat"], &["edit", "a.png", "--", "a cat"]),
            (&["edit", "--init_img=a.png", "a cat"], &["edit", "a.png", "a cat"]),
            (
                &["generate", "a", "--negative_prompt", "a_b", "--cfg_scale=1_0"],
                &["generate", "a", "--negative-prompt", "a_b", "--cfg-scale=1_0"],
            ),
            (&["generate", "--", "--a_b"], &["generate", "--", "--a_b"]),
            (&["generate", "--", "-p", "x"], &["generate", "--", "-p", "x"]),
            (&["--offline", "generate", "-p", "a"], &["--offline", "generate", "--", "a"]),
            (&["generate", "-p"], &["generate", "-p"]),
            (&["setup", "-p", "x"], &["setup", "-p", "x"]),
            (&["cat"], &["cat"]),
            (&["--version"], &["--version"]),
            (&["--", "a b"], &["--", "a b"]),
            (&[], &[]),
        ];
        for (words, expected) in cases {
            assert_eq!(translated(words), expected, "{words:?}");
        }
    }

    #[test]
    fn a_flag_that_means_nothing_here_has_a_tip() {
        assert_eq!(tip("--tiling"), Some("--tileable both"));
        assert_eq!(tip("--frobnicate"), None);
        let mut all: Vec<_> = TIPS.iter().flat_map(|(names, _)| *names).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), TIPS.iter().map(|(names, _)| names.len()).sum::<usize>());
    }

    #[cfg(unix)]
    #[test]
    fn a_word_that_is_no_text_stays() {
        use std::os::unix::ffi::OsStringExt;

        let odd = OsString::from_vec(b"--caf\xe9_".to_vec());
        let line = ["pocketmuse".into(), "edit".into(), "-i".into(), odd.clone()];
        let found = translate(line, |word| word == "edit");
        assert_eq!(found, ["pocketmuse".into(), "edit".into(), odd]);
    }
}
