//! `pocketmuse edit` as scripts see it: what comes out, and what is refused before any work.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use image::{ImageBuffer, Luma, Rgb, RgbImage, Rgba};
use tempfile::TempDir;

use crate::support::{self, run, succeed};

fn open(folder: &Path, name: &str) -> RgbImage {
    image::open(folder.join(name)).expect(name).into_rgb8()
}

/// A folder with an image the bundled model might have drawn, and masks of many kinds.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let scene = RgbImage::from_fn(128, 128, |x, y| match (x, y) {
        (40..88, 40..100) => Rgb([200, 40, 40]),
        (_, 0..80) => Rgb([110, 180, 240]),
        _ => Rgb([90, 170, 80]),
    });
    scene.save(root.join("house.png")).expect("written");
    ImageBuffer::from_fn(64, 64, |x, _| Luma([if x < 32 { 255u8 } else { 0 }]))
        .save(root.join("left.png"))
        .expect("written");
    ImageBuffer::from_pixel(128, 128, Luma([0u8])).save(root.join("empty.png")).expect("written");
    ImageBuffer::from_pixel(128, 128, Luma([255u8])).save(root.join("full.png")).expect("written");
    let round = |x: u32, y: u32| Rgba([90, 90, 200, if x < 64 && y < 64 { 0 } else { 255u8 }]);
    ImageBuffer::from_fn(128, 128, round).save(root.join("alpha.png")).expect("written");
    fs::write(root.join("text.png"), "no image").expect("written");
    let whole = fs::read(root.join("house.png")).expect("written");
    fs::write(root.join("short.png"), &whole[..whole.len() / 2]).expect("written");
    folder
}

#[test]
fn what_cannot_work_fails_before_any_work_with_one_line() {
    let root = folder();
    let before = fs::read_dir(root.path()).expect("readable").count();
    let cases: [(&[&str], i32, &str); 13] = [
        (&["edit", "house.png"], 2, "required arguments were not provided"),
        (&["edit", "none.png", "a"], 1, "error: none.png: "),
        (&["edit", "text.png", "a"], 1, "error: text.png: expected a PNG, JPEG"),
        (&["edit", "short.png", "a"], 1, "error: short.png: expected an image, found"),
        (
            &["edit", "house.png", "a", "--strength", "1.5"],
            2,
            "error: strength: expected a number of 0 to 1",
        ),
        (
            &["edit", "house.png", "a", "--width", "100"],
            2,
            "error: width: expected a multiple of 16",
        ),
        (&["edit", "house.png", "a", "--mask", "empty.png"], 2, "error: mask: expected white"),
        (
            &["edit", "house.png", "a", "--mask", "text.png"],
            1,
            "error: text.png: expected a PNG, JPEG",
        ),
        (
            &["edit", "house.png", "a", "--box", "100,0,64,64"],
            2,
            "error: box: expected left,top,width,height inside 128",
        ),
        (&["edit", "house.png", "a", "--box", "1,1,0,1"], 2, "error: box: expected"),
        (
            &["edit", "house.png", "a", "--alpha"],
            1,
            "error: house.png: expected an image with an alpha channel",
        ),
        (&["edit", "house.png", "a", "--alpha", "--box", "0,0,9,9"], 2, "cannot be used with"),
        (
            &["edit", "house.png", "a", "-o", "a.gif"],
            2,
            "error: a.gif: expected a file ending in .png",
        ),
    ];
    for (words, code, message) in cases {
        let output = run(root.path(), words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
        assert!(stderr.contains(message), "{words:?}: expected {message:?}, found {stderr:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), before, "{words:?}");
    }
}

#[test]
fn strength_decides_how_much_of_the_image_stays() {
    let root = folder();
    let original = open(root.path(), "house.png");
    let mut distances = Vec::new();
    for strength in ["0", "0.4", "1"] {
        let words = [
            "edit",
            "house.png",
            "a green tree at night",
            "--seed",
            "3",
            "--strength",
            strength,
            "-o",
            "a.png",
        ];
        assert_eq!(succeed(root.path(), &words), "a.png\n");
        let made = open(root.path(), "a.png");
        distances.push(
            made.iter().zip(original.iter()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>(),
        );
    }
    assert!(distances.is_sorted() && distances[2] > 2 * distances[0], "{distances:?}");
    let alone = run(root.path(), &["generate", "--from", "a.png", "-o", "b.png"]);
    assert!(
        String::from_utf8_lossy(&alone.stderr).contains("strength: expected an image to edit"),
        "{alone:?}"
    );
    succeed(root.path(), &["edit", "house.png", "--from", "a.png", "-o", "b.png"]);
    assert_eq!(open(root.path(), "a.png"), open(root.path(), "b.png"), "the PNG holds the request");
}

#[test]
fn outside_the_mask_every_byte_stays() {
    let root = folder();
    let original = open(root.path(), "house.png");
    for (mask, size) in
        [(&["--mask", "left.png"][..], None), (&["--box", "0,0,64,128"], Some("80"))]
    {
        let mut words = vec![
            "edit",
            "house.png",
            "a red robot",
            "--seed=1",
            "--num-inference-steps=4",
            "-o",
            "a.png",
        ];
        words.extend(mask);
        words.extend(size.iter().flat_map(|size| ["--width", size, "--height", size]));
        succeed(root.path(), &words);
        let made = open(root.path(), "a.png");
        if size.is_none() {
            let right = (72..128).flat_map(|x| (0..128).map(move |y| (x, y)));
            assert!(
                right.into_iter().all(|(x, y)| made.get_pixel(x, y) == original.get_pixel(x, y))
            );
        } else {
            assert_eq!(made.dimensions(), (80, 80), "not a multiple of 16 tokens");
        }
    }
    let words =
        ["edit", "alpha.png", "a red robot", "--alpha", "--num-inference-steps=2", "-o", "a.png"];
    succeed(root.path(), &words);
    let (made, original) = (open(root.path(), "a.png"), open(root.path(), "alpha.png"));
    assert_eq!(made.get_pixel(100, 100), original.get_pixel(100, 100));
    succeed(
        root.path(),
        &["edit", "house.png", "a", "--mask", "full.png", "--num-inference-steps=2", "-o", "a.png"],
    );
}

#[test]
fn a_variation_is_made_of_a_file_or_a_prompt_and_repeats() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let words = ["generate", "a red robot in the snow", "--seed=7", "--num-inference-steps=6"];
    succeed(root, &[&words[..], &["--num-images-per-prompt=2", "-o", "a.png"]].concat());
    let vary = |from: &str, words: &[&str]| {
        succeed(root, &[&["generate", "--from", from], words].concat())
    };

    assert_eq!(
        vary("a-1.png", &["--variation=0", "-o", "b.png"]),
        "b.png\n",
        "one, where there were two"
    );
    assert_eq!(open(root, "b.png"), open(root, "a-1.png"), "no variation is the image itself");
    let several = ["--variation=0.5", "--num-images-per-prompt=2", "--job=job.json", "-o", "c.png"];
    assert_eq!(vary("a-1.png", &several), "c-0.png\nc-1.png\n");
    let (first, second) = (open(root, "c-0.png"), open(root, "c-1.png"));
    assert!(first != second && first != open(root, "a-1.png") && second != open(root, "a-1.png"));

    vary("c-1.png", &["-o", "d.png"]);
    assert_eq!(open(root, "d.png"), second, "the PNG holds the request");
    vary("c-1.png", &["--variation=0", "-o", "e.png"]);
    assert_eq!(
        open(root, "e.png"),
        open(root, "a-1.png"),
        "a variation of a variation is one of its image"
    );
    let made = fs::read(root.join("c-0.png")).expect("made");
    fs::remove_file(root.join("c-0.png")).expect("there");
    succeed(root, &["resume", "job.json"]);
    assert_eq!(fs::read(root.join("c-0.png")).expect("made again"), made);
    succeed(
        root,
        &[&words[..], &["--variation=0.5", "--num-images-per-prompt=2", "-o", "f.png"]].concat(),
    );
    vary("a-0.png", &["--variation=0.5", "--num-images-per-prompt=2", "-o", "g.png"]);
    assert_eq!(
        open(root, "f-1.png"),
        open(root, "g-1.png"),
        "a prompt and a seed are as good as their image"
    );

    let cases: [(&[&str], &str); 5] = [
        (
            &["generate", "a", "--variation=1.5"],
            "error: variation: expected a number of 0 to 1, found 1.5",
        ),
        (&["generate", "a", "--variation=x"], "invalid value 'x' for '--variation <SHARE>'"),
        (
            &["generate", "a", "--variation=0.3", "--rng=torch"],
            "error: variation: expected the generator own, found torch",
        ),
        (
            &["edit", "a-0.png", "a", "--variation=0.3"],
            "error: variation: expected an image that a prompt made",
        ),
        (
            &["generate", "--from=c-1.png", "--trace=why"],
            "error: variation: expected none where a trace is wanted",
        ),
    ];
    for (words, message) in cases {
        let output = run(root, words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
        assert!(stderr.contains(message), "{words:?}: expected {message:?}, found {stderr:?}");
    }
}

#[test]
fn a_tileable_image_repeats_and_what_cannot_be_one_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    let words = ["generate", "mountains at night", "--seed=3", "--num-inference-steps=2"];
    succeed(root, &[&words[..], &["--tileable=across", "-o", "a.png"]].concat());
    succeed(root, &[&words[..], &["-o", "plain.png"]].concat());
    succeed(root, &["generate", "--from=a.png", "-o", "b.png"]);
    succeed(root, &["generate", "--from=a.png", "--tileable=no", "-o", "c.png"]);
    let [a, b, c, plain] = ["a.png", "b.png", "c.png", "plain.png"].map(|name| open(root, name));
    assert!(a == b && c == plain && a != plain && a.dimensions() == plain.dimensions());
    for (words, message) in [
        (
            &["generate", "a", "--tileable=left"][..],
            "expected no, across, down or both, found \"left\"",
        ),
        (
            &["edit", "a.png", "a", "--tileable=both"],
            "error: tileable: expected an image that a prompt makes",
        ),
        (
            &["generate", "--from=a.png", "--trace=why"],
            "error: tileable: expected no where a trace is wanted",
        ),
    ] {
        let output = run(root, words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
        assert!(stderr.contains(message), "{words:?}: expected {message:?}, found {stderr:?}");
    }
}

/// A file of some kilobytes that holds 20,000 x 20,000 pixels of one colour.
#[cfg(target_os = "linux")]
fn huge(path: &Path) {
    use std::io::Write as _;

    let mut encoder = png::Encoder::new(fs::File::create(path).expect("a file"), 20_000, 20_000);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().expect("written");
    let mut rows = writer.stream_writer().expect("a stream");
    (0..20_000).for_each(|_| rows.write_all(&[0xff; 2500]).expect("written"));
    rows.finish().expect("written");
}

#[test]
#[cfg(target_os = "linux")]
fn a_huge_image_is_refused_in_little_memory() {
    let root = folder();
    huge(&root.path().join("huge.png"));
    assert!(fs::metadata(root.path().join("huge.png")).expect("there").len() < 1 << 20);
    for words in [&["edit", "huge.png", "a"][..], &["edit", "house.png", "a", "--mask", "huge.png"]]
    {
        // Its pixels are 400 MB. What needs more address space than 403 MB dies of it.
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -v 393216; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_pocketmuse")])
            .args(words);
        let output =
            command.current_dir(root.path()).stdin(Stdio::null()).output().expect("started");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
        assert!(
            stderr.contains(
                "huge.png: expected pixels of at most 268 MB, found 20000 x 20000 pixels"
            ),
            "{stderr}"
        );
    }
}

#[test]
fn an_image_of_one_pixel_is_enough() {
    let root = folder();
    RgbImage::from_pixel(1, 1, Rgb([200, 40, 40]))
        .save(root.path().join("dot.png"))
        .expect("written");
    for more in [&[][..], &["--mask", "house.png"], &["--width", "64"]] {
        succeed(
            root.path(),
            &[&["edit", "dot.png", "a red house", "--num-inference-steps=1", "-o", "a.png"], more]
                .concat(),
        );
        let side = if more.contains(&"64") { 64 } else { 16 };
        assert_eq!(open(root.path(), "a.png").dimensions(), (side, side), "{more:?}");
    }
}

#[test]
#[cfg(unix)]
fn a_killed_job_is_resumed_to_the_same_bytes() {
    use std::io::{BufRead, BufReader};

    let root = folder();
    let words = |output| {
        let edit = [
            "edit",
            "house.png",
            "a red robot",
            "--seed=3",
            "--num-inference-steps=4",
            "--box",
            "8,8,90,90",
        ];
        [&edit[..], &["--width=64", "--height=64", "--json", "-o", output]].concat()
    };
    succeed(root.path(), &words("whole.png"));
    // Killed after the start and after every step; "done" never comes.
    for events in 1..=5 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pocketmuse"));
        command
            .current_dir(root.path())
            .envs([support::ONE_THREAD])
            .args([&words("a.png")[..], &["--job", "job.json"]].concat());
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        assert_eq!(lines.take(events).filter(|line| line.is_ok()).count(), events);
        child.kill().expect("killed");
        child.wait().expect("ended");
        let _ = fs::remove_file(root.path().join("a.png"));
        succeed(root.path(), &["resume", "job.json"]);
        let read = |name: &str| fs::read(root.path().join(name)).expect(name);
        assert_eq!(read("a.png"), read("whole.png"), "killed after {events} events");
        fs::remove_file(root.path().join("job.json")).expect("there");
    }
}

#[test]
fn a_job_that_was_changed_or_whose_image_was_is_refused() {
    let root = folder();
    let words = [
        "edit",
        "house.png",
        "a",
        "--num-inference-steps=1",
        "--strength=1",
        "--job",
        "job.json",
        "-o",
        "a.png",
    ];
    succeed(root.path(), &words);
    let job = fs::read_to_string(root.path().join("job.json")).expect("kept");
    let refused = |message: &str| {
        let output = run(root.path(), &["resume", "job.json"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), stderr.contains(message)),
            (Some(1), true),
            "{message}: {stderr}"
        );
    };
    fs::write(root.path().join("job.json"), job.replace("\"next_step\":1", "\"next_step\":0"))
        .expect("written");
    refused("the job was changed");
    fs::write(root.path().join("job.json"), "{").expect("written");
    refused("error: job.json: job: expected a job saved by pocketmuse");
    fs::write(root.path().join("job.json"), &job).expect("written");
    succeed(root.path(), &["resume", "job.json"]);
    RgbImage::new(9, 9).save(root.path().join("house.png")).expect("written");
    refused("the image was changed");
    fs::remove_file(root.path().join("job.json")).expect("there");
    refused("error: job.json: ");
}
