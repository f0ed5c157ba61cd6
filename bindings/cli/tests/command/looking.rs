//! `--trace` as its readers see it: a folder whose page needs nothing beside it.

#[cfg(target_os = "linux")]
use std::fs;

use crate::support::{self, names, run, succeed};
#[cfg(target_os = "linux")]
use crate::terminal;

#[test]
fn a_trace_is_a_page_charts_and_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let words =
        ["generate", "a <b>red</b> tree & a pyroclast", "--seed=3", "--num-inference-steps=3"];
    succeed(root, &[&words[..], &["-o", "plain.png"]].concat());
    let printed = succeed(root, &[&words[..], &["-o", "traced.png", "--trace", "why"]].concat());
    assert_eq!(printed, "traced.png\n", "the page is told on stderr");
    let read = |name: &str| fs::read(root.join(name)).expect(name);
    assert_eq!(read("plain.png"), read("traced.png"));

    let found = names(&root.join("why"));
    for name in ["index.html", "trace.json", "steps.png", "words.png", "word-05-red.png"] {
        assert!(found.iter().any(|found| found == name), "{name}: {found:?}");
    }
    for name in found.iter().filter(|name| name.ends_with(".png")) {
        let chart = image::open(root.join("why").join(name)).expect(name);
        assert!(chart.width() > 128 && chart.height() > 128, "{name}");
    }
    let page = String::from_utf8(read("why/index.html")).expect("UTF-8");
    assert_eq!(page.matches("src=").count(), page.matches("src=\"data:image/png;base64,").count());
    for outside in ["http", "<script", "<link", "<b>red", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let first = "<p>These words may be why:</p>\n<ul>\n";
    let missing =
        page.split_once(first).and_then(|(_, after)| after.split_once("</ul>")).expect("a list").0;
    assert!(
        missing.contains("<li><b>pyroclast</b>: The vocabulary lacks it")
            && !missing.contains("<b>a</b>"),
        "{missing}"
    );
    assert!(
        page.contains("&lt;")
            && page.contains("The vocabulary lacks it")
            && page.contains("times an average word")
    );
    let json: serde_json::Value = serde_json::from_slice(&read("why/trace.json")).expect("JSON");
    let texts: Vec<_> = json["trace"]["words"]
        .as_array()
        .expect("words")
        .iter()
        .map(|word| &word["text"])
        .collect();
    assert!(texts.contains(&&"red".into()) && texts.contains(&&"pyroclast".into()), "{texts:?}");
    assert_eq!(json["trace"]["pictures"][0].as_array().map(Vec::len), Some(3));
    assert_eq!(json["shares"][0].as_array().map(Vec::len), Some(texts.len()));
    assert_eq!(json["request"]["seed"], 3);

    let events = succeed(
        root,
        &[
            "generate",
            "a tree",
            "--num-inference-steps=1",
            "--num-images-per-prompt=2",
            "--json",
            "--trace",
            "why",
        ],
    );
    assert!(events.contains("{\"event\":\"trace\",\"page\":\"why/index.html\"}"), "{events}");
    assert!(
        names(&root.join("why")).contains(&"picture-1-words.png".to_owned()),
        "a trace is replaced as a whole"
    );
    assert!(!root.join("why/word-05-red.png").exists());
}

#[test]
#[cfg(unix)]
fn a_resumed_job_shows_the_steps_that_were_left() {
    use std::io::{BufRead, BufReader};

    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let words = ["generate", "a red tree at night", "--seed=3", "--num-inference-steps=20"];
    succeed(root, &[&words[..], &["--preview", "-o", "whole.png"]].concat());
    // Killed after the second step, or little later.
    let mut child = support::pocketmuse(
        root,
        &[&words[..], &["--job=job.json", "--json", "-o", "a.png"]].concat(),
    )
    .spawn()
    .expect("started");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.take(3).filter(|line| line.is_ok()).count(), 3);
    child.kill().expect("killed");
    child.wait().expect("ended");
    let read = |name: &str| fs::read(root.join(name)).expect(name);
    let job: serde_json::Value = serde_json::from_slice(&read("job.json")).expect("JSON");
    let made = job["job"]["state"]["next_step"].as_u64().expect("a step") as usize;
    assert!((2..20).contains(&made), "{made}");

    let output = run(root, &["resume", "job.json", "--preview", "--trace=why"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success()
            && stderr.contains("those made before the job was resumed are not in it"),
        "{stderr}"
    );
    assert_eq!(read("a.png"), read("whole.png"));
    let preview = |name: &str, step: usize| root.join(format!("{name}.step-{step:02}.png"));
    for step in 1..=20 {
        let shown = fs::read(preview("a", step)).ok();
        let expected = (step > made).then(|| fs::read(preview("whole", step)).expect("a preview"));
        assert!(
            shown == expected,
            "step {step}: shown if it was left, as in a job that was never killed"
        );
    }
    let trace: serde_json::Value = serde_json::from_slice(&read("why/trace.json")).expect("JSON");
    assert_eq!(trace["trace"]["unseen_steps"], made);
    assert_eq!(trace["trace"]["pictures"][0].as_array().map(Vec::len), Some(20 - made));
    assert_eq!(trace["trace"]["pictures"][0][0]["step"], made);
    assert!(
        trace["verdicts"][0][1].as_str().expect("a sentence").contains(" in these steps: "),
        "{}",
        trace["verdicts"]
    );
    let page = String::from_utf8(read("why/index.html")).expect("UTF-8");
    assert!(page.contains(&format!("{made} steps were made before the job was resumed")));

    // Nothing is left now.
    let output = run(root, &["resume", "job.json", "--trace=why"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("export the package again"));
    let page = String::from_utf8(read("why/index.html")).expect("UTF-8");
    assert!(
        page.contains("20 steps were made before")
            && page.contains("No step was run, so there is nothing to see")
    );
    let refused = run(root, &["resume", "job.json", "--trace=job.json"]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[test]
fn a_trace_replaces_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    fs::create_dir(root.join("mine")).expect("made");
    fs::write(root.join("file"), "").expect("written");
    let cases = [
        ("mine", 2, "error: mine: expected a new folder or a trace to replace"),
        ("file", 2, "error: file: expected a new folder or a trace to replace"),
        ("none/why", 1, "error: none"),
    ];
    for (place, code, message) in cases {
        let output = run(root, &["generate", "a tree", "--trace", place]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{place}: {stderr}");
        assert!(stderr.contains(message), "{place}: {stderr}");
        assert_eq!(names(root), ["file", "mine"]);
    }
}

#[test]
fn previews_are_files_where_there_is_no_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let words = [
        "generate",
        "a red tree",
        "--seed=3",
        "--num-inference-steps=3",
        "--num-images-per-prompt=2",
    ];
    succeed(root, &[&words[..], &["-o", "plain.png"]].concat());
    let events = succeed(root, &[&words[..], &["-o", "a.png", "--preview", "--json"]].concat());
    assert!(events.contains("\"preview\":[\"a-0.step-03.png\",\"a-1.step-03.png\"]"), "{events}");
    let read = |name: &str| fs::read(root.join(name)).expect(name);
    for image in [0, 1] {
        assert_eq!(read(&format!("plain-{image}.png")), read(&format!("a-{image}.png")));
        for step in 1..=3 {
            let preview =
                image::open(root.join(format!("a-{image}.step-0{step}.png"))).expect("a preview");
            assert_eq!((preview.width(), preview.height()), (128, 128));
        }
    }
    assert_eq!(names(root).len(), 4 + 6, "{:?}", names(root));
}

#[test]
#[cfg(target_os = "linux")]
fn previews_are_drawn_where_the_terminal_shows_images() {
    use terminal::{QUESTION, Terminal};

    const WORDS: [&str; 5] = ["generate", "a tree", "--num-inference-steps=2", "-o", "a.png"];
    const TRUE: (&str, &str) = ("COLORTERM", "truecolor");
    let [kitty, iterm, sixel, block] = ["\x1b_Ga=T", "\x1b]1337;File=", "\x1bP0;1;0q", "\u{2580}"];
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>, bool, &'a str);
    // The flag, the environment, what the terminal answers, whether it is asked, and what it gets.
    let cases: [Case<'_>; 11] = [
        ("--preview", &[("TERM", "xterm-kitty")], None, false, kitty),
        (
            "--preview",
            &[("TERM", "xterm-256color"), ("TERM_PROGRAM", "iTerm.app")],
            None,
            false,
            iterm,
        ),
        ("--preview", &[("TERM", "xterm")], Some("\x1b[?63;1;2;4;6c"), true, sixel),
        ("--preview", &[("TERM", "xterm"), TRUE], Some("\x1b[?62;c"), true, block),
        ("--preview", &[("TERM", "xterm"), TRUE], None, true, block),
        ("--preview", &[("TERM", "xterm")], None, true, ""),
        (
            "--preview",
            &[("TERM", "tmux-256color"), ("TMUX", "x"), TRUE],
            Some("\x1b[?62;4c"),
            false,
            block,
        ),
        ("--preview=sixel", &[("TERM", "xterm-kitty")], None, false, sixel),
        ("--preview=blocks", &[("TERM", "xterm")], None, false, block),
        ("--preview=files", &[("TERM", "xterm-kitty")], None, false, ""),
        ("--preview=kitty", &[("TERM", "dumb")], None, false, kitty),
    ];
    for (flag, environment, answer, asked, expected) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let case = format!("{flag} {environment:?} {answer:?}");
        let shown =
            Terminal::new(answer).run(folder.path(), &[&WORDS[..], &[flag]].concat(), environment);
        assert_eq!(shown.contains(QUESTION), asked, "{case}: {shown:?}");
        for image in [kitty, iterm, sixel, block] {
            assert_eq!(shown.contains(image), image == expected, "{case}: {shown:?}");
        }
        let files: &[&str] = if expected.is_empty() {
            &["a.png", "a.step-01.png", "a.step-02.png"]
        } else {
            &["a.png"]
        };
        assert_eq!(names(folder.path()), files, "{case}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_dumb_terminal_is_sent_text_alone() {
    let root = tempfile::tempdir().expect("a folder");
    let words = ["generate", "a tree", "-o", "a.png", "--preview", "--num-inference-steps=1"];
    let words = [&words[..], &["--height=32", "--width=32"]].concat();
    let dumb = [("TERM", "dumb"), ("COLORTERM", "truecolor"), ("CI", "true")];
    let shown = terminal::Terminal::new(None).run(root.path(), &words, &dumb);
    assert!(shown.ends_with("a.png\r\n") && !shown.contains('\x1b'), "{shown:?}");
    assert!(root.path().join("a.step-01.png").exists(), "previews are files");
    let shown = terminal::Terminal::new(None).run(root.path(), &["generate", "--help"], &dumb);
    assert!(shown.contains("--seed") && !shown.contains('\x1b'), "{shown:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn several_jobs_ask_the_terminal_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let words = [
        "generate",
        "a tree",
        "--seeds=1,2",
        "--num-inference-steps=1",
        "-o",
        "a.png",
        "--preview",
    ];
    let shown = terminal::Terminal::new(Some("\x1b[?62;4c")).run(
        folder.path(),
        &words,
        &[("TERM", "xterm")],
    );
    assert_eq!(
        (shown.matches(terminal::QUESTION).count(), shown.matches("\x1bP0;1;0q").count()),
        (1, 2),
        "{shown:?}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn what_was_typed_ahead_stays_for_the_shell() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut terminal = terminal::Terminal::new(Some("\x1b[?62;4c"));
    terminal.type_ahead("ls\n");
    let words = ["generate", "a tree", "--num-inference-steps=1", "-o", "a.png", "--preview"];
    let shown = terminal.run(folder.path(), &words, &[("TERM", "xterm")]);
    assert!(!shown.contains(terminal::QUESTION), "{shown:?}");
    assert_eq!(names(folder.path()), ["a.png", "a.step-01.png"]);
}
