//! `pocketmuse edit --extend` as scripts see it, and what images that come in count and say.

use std::{fs, path::Path};

use image::{GenericImageView as _, Rgb, RgbImage};
use tempfile::TempDir;

use crate::support::{run, succeed};

fn open(folder: &Path, name: &str) -> RgbImage {
    image::open(folder.join(name)).expect(name).into_rgb8()
}

/// A folder with an image the bundled model might have drawn.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let scene = RgbImage::from_fn(128, 128, |x, y| match (x, y) {
        (40..88, 40..100) => Rgb([200, 40, 40]),
        (_, 0..80) => Rgb([110, 180, 240]),
        _ => Rgb([90, 170, 80]),
    });
    scene.save(folder.path().join("house.png")).expect("written");
    folder
}

#[test]
fn outpainting_keeps_the_image_and_paints_around_it() {
    let root = folder();
    let original = open(root.path(), "house.png").view(32, 32, 64, 48).to_image();
    original.save(root.path().join("small.png")).expect("written");
    let [across, down] = [64, 48];
    // What is added, the result's sides, and where the image's corner is in it.
    let cases: [(&str, [u32; 4], [u32; 2]); 6] = [
        ("left=32", [32, 0, 0, 0], [32, 0]),
        ("top=32", [0, 32, 0, 0], [0, 32]),
        ("right=48", [0, 0, 48, 0], [0, 0]),
        ("bottom=16", [0, 0, 0, 16], [0, 0]),
        ("left=16,top=32,right=32,bottom=16", [16, 32, 32, 16], [16, 32]),
        ("left=20", [32, 0, 0, 0], [32, 0]), // 84 pixels become six whole tokens
    ];
    for (extend, [left, top, right, bottom], corner) in cases {
        let words = [
            "edit",
            "small.png",
            "a red house",
            "--seed=2",
            "--num-inference-steps=3",
            "-o",
            "a.png",
        ];
        assert_eq!(succeed(root.path(), &[&words[..], &["--extend", extend]].concat()), "a.png\n");
        let made = open(root.path(), "a.png");
        assert_eq!(made.dimensions(), (left + across + right, top + down + bottom), "{extend}");
        let (mut kept, mut painted) = (0, 0);
        for (x, y, pixel) in made.enumerate_pixels() {
            let [at_x, at_y] =
                [i64::from(x) - i64::from(corner[0]), i64::from(y) - i64::from(corner[1])];
            // The border, outside.
            let before = *original.get_pixel(at_x.clamp(0, 63) as u32, at_y.clamp(0, 47) as u32);
            if (0..i64::from(across)).contains(&at_x) && (0..i64::from(down)).contains(&at_y) {
                assert_eq!(*pixel, before, "{extend}: {x}, {y}");
                kept += 1;
            } else {
                painted += u32::from(*pixel != before);
            }
        }
        let added = made.width() * made.height() - across * down;
        assert!(
            kept == across * down && 2 * painted > added,
            "{extend}: {kept} kept, {painted} of {added} painted"
        );
    }
}

#[test]
fn the_exact_size_crops_what_was_rounded_up() {
    let root = folder();
    let extend = ["edit", "house.png", "--extend=left=10", "--num-inference-steps=3"];
    let whole = [&extend[..], &["a red house", "--seed=2", "-o", "whole.png"]].concat();
    succeed(root.path(), &whole);
    let exact = ["a red house", "--seed=2", "--width=138", "--job=job.json", "-o", "exact.png"];
    succeed(root.path(), &[&extend[..], &exact].concat());
    let exact = open(root.path(), "exact.png");
    assert_eq!(exact, open(root.path(), "whole.png").view(6, 0, 138, 128).to_image());
    succeed(root.path(), &["resume", "job.json"]);
    assert_eq!(open(root.path(), "exact.png"), exact);
    succeed(root.path(), &[&extend[..], &["--from=exact.png", "-o", "again.png"]].concat());
    assert_eq!(open(root.path(), "again.png"), exact, "the PNG holds the request");
    let alone = run(root.path(), &["generate", "--from", "exact.png", "-o", "a.png"]);
    let message = String::from_utf8_lossy(&alone.stderr);
    let expected =
        "error: strength: expected an image to edit, found the request of exact.png alone";
    assert!(message.starts_with(expected) && message.lines().count() == 1, "{message}");
    assert_eq!(alone.status.code(), Some(2));
}

#[test]
fn a_plan_counts_the_images_and_warnings_are_said() {
    let root = folder();
    let event = |words: &[&str]| -> serde_json::Value {
        let said = succeed(root.path(), words);
        serde_json::from_str(said.lines().next().expect("an event")).expect("JSON")
    };
    let plan = event(&["edit", "house.png", "a", "--box=0,0,32,32", "--explain", "--json"]);
    assert_eq!(plan["held_bytes"], 2 * 4 * 128 * 128, "with a mask, as given and as fitted");
    assert_eq!(event(&["generate", "a", "--explain", "--json"])["held_bytes"], 0);
    let clear = image::RgbaImage::from_pixel(64, 64, image::Rgba([200, 40, 40, 0]));
    clear.save(root.path().join("clear.png")).expect("written");
    let commands: [&[&str]; 3] = [
        &["edit", "clear.png", "a", "--strength=0.1", "-o", "a.png", "--json"],
        &["grid", "a", "--image=clear.png", "--columns=seed=1", "-o", "a.png", "--json"],
        &["video", "a", "--end=clear.png", "--frames=1", "-o", "a.gif", "--json"],
    ];
    for command in commands {
        let warning = event(command);
        assert_eq!(warning["event"], "warning", "{command:?}");
        let message = warning["message"].as_str().expect("text");
        assert!(message.contains("no pixel of the image is opaque"), "{message}");
    }
}

#[test]
fn absurd_sizes_around_an_image_are_refused() {
    let root = folder();
    let before = fs::read_dir(root.path()).expect("readable").count();
    let sides =
        "error: extend: expected some pixels, and sides of at most 4096 with the image, found";
    let cases: [(&[&str], String); 9] = [
        (&["left=0"], format!("{sides} 128 x 128")),
        (&["left=3969"], format!("{sides} 4097 x 128")),
        (&["top=4294967295"], format!("{sides} 128 x 4294967423")),
        (&["top=4294967295,bottom=4294967295"], format!("{sides} 128 x 8589934718")),
        (&["left=-1"], "expected 0 to 4294967295 pixels at the left, found \"-1\"".to_owned()),
        (
            &["bottom=4294967296"],
            "expected 0 to 4294967295 pixels at the bottom, found \"4294967296\"".to_owned(),
        ),
        (&["right=1.5"], "expected 0 to 4294967295 pixels at the right, found \"1.5\"".to_owned()),
        (&["up=16"], "expected sides such as left=64,top=32, found \"up=16\"".to_owned()),
        (
            &["left=3968,top=3968", "--memory=400MB"],
            "error: memory: expected a budget of at least".to_owned(),
        ),
    ];
    for (words, message) in cases {
        let output = run(root.path(), &[&["edit", "house.png", "a", "--extend"], words].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
        assert!(stderr.contains(&message), "{words:?}: expected {message:?}, found {stderr:?}");
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), before, "{words:?}");
    }
}
