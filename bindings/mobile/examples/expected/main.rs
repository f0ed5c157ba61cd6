//! What the tests of both languages compare with, made by the runtime itself on the same machine:
//! `expected CASES FOLDER` writes a package, the images that cases hand in, those that should come
//! out as RGBA bytes, and `FOLDER/expected.json`. `expected CASES FOLDER measure` times an image, as
//! the tests do with the argument `child measure`.

mod faulty;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[path = "../../../cli/tests/support/openvino.rs"]
mod openvino;

use std::{
    env, error, fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Instant,
};

use image::{GrayImage, RgbImage};
use pocketmuse::{
    Budget, Capabilities, Options, Origin, Output, Pipeline, Request, Runtime, Source, Video,
    pixels::{Alpha, Rgba, write_rgba},
    video::Event,
};
use pocketmuse_cli::{bundled, runtime};
use pocketmuse_package::Flavour;
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, Box<dyn error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(Into::into).collect();
    let [cases, folder, rest @ ..] = &arguments[..] else {
        return Err("usage: expected CASES FOLDER [measure]".into());
    };
    let cases: Value = serde_json::from_slice(&fs::read(cases)?)?;
    fs::create_dir_all(folder)?;
    let library = folder.join(pocketmuse::library::file_name());
    fs::copy(runtime::start(false)?.path(), &library)?;
    let package = bundled::package(folder, Flavour::Int8, |_| ControlFlow::Continue(()))?;
    let pipeline = Pipeline::open(&package)?;
    if !rest.is_empty() {
        return measure(&pipeline);
    }
    faulty::packages(&package, folder)?;
    faulty::archives(&package, folder)?;
    faulty::states(&pipeline, folder)?;
    let (mut images, mut plans) = (Map::new(), Map::new());
    for case in cases["cases"].as_array().ok_or("expected a list of cases")? {
        if case["kind"] == "plan" {
            let name = case["name"].as_str().ok_or("expected a name")?;
            plans.insert(name.to_owned(), plan(&package, case, &folder.join(name))?.into());
        } else if case.get("work").is_some() && case["kind"] != "error" {
            let name = case["name"].as_str().ok_or("expected a name")?;
            let made = images_of(&pipeline, case, &folder.join(name))?;
            for (index, image) in made.iter().enumerate() {
                fs::write(folder.join(format!("{name}.{index}.expected")), rgba(image)?)?;
            }
            images.insert(name.to_owned(), made.len().into());
        }
    }
    let found = json!({
        "package": package.file_name().and_then(|name| name.to_str()),
        "library": library.file_name().and_then(|name| name.to_str()),
        "build": Runtime::start(None)?.build_info(),
        "openvino": openvino(folder)?,
        "images": images,
        "plans": plans,
        "capabilities": capabilities(pipeline.capabilities()),
    });
    fs::write(folder.join("expected.json"), serde_json::to_vec_pretty(&found)?)?;
    println!("{} images expected", images.len());
    Ok(())
}

/// OpenVINO's plug-in with its libraries in `folder`, the only one that the tests of Swift see: its
/// path there.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn openvino(folder: &Path) -> Result<Option<PathBuf>> {
    if openvino::missing().is_some() {
        return Ok(None);
    }
    let plugin = openvino::plugin();
    let (Some(from), Some(name)) = (plugin.parent(), plugin.file_name()) else { return Ok(None) };
    let to = Path::new("openvino");
    faulty::copy_folder(from, &folder.join(to))?;
    Ok(Some(to.join(name)))
}

/// There is none for this machine.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn openvino(_: &Path) -> Result<Option<PathBuf>> {
    Ok(None)
}

/// What a package can do, by the names of the fields.
fn capabilities(of: &Capabilities) -> Value {
    let flavours: Vec<_> = of.flavours.iter().map(ToString::to_string).collect();
    json!({
        "model": of.model,
        "flavours": flavours,
        "flavour": of.flavour.to_string(),
        "size": of.size,
        "size_multiple": of.size_multiple,
        "max_size": of.max_size,
        "edit": of.edit,
        "preview": of.preview,
        "words": of.words,
    })
}

/// The memory that the work of a case takes, with the options that it names.
fn plan(package: &Path, case: &Value, inputs: &Path) -> Result<u64> {
    let memory = Budget::Bytes(case["memory"].as_u64().ok_or("expected memory")?);
    let threads = Some(number(&case["threads"])? as usize);
    let pipeline =
        Pipeline::open_with(package, &Options { memory, threads, ..Options::default() })?;
    let request = request(case)?;
    let job = match case["work"].as_str() {
        Some("generate") => pipeline.job(&request, Origin::Nothing)?,
        Some("edit") => pipeline.job(&request, Origin::Image(&source(&case["source"], inputs)?))?,
        Some("video") => pipeline.video_job(&request, &video(&case["video"], inputs)?)?,
        other => return Err(format!("expected work, found {other:?}").into()),
    };
    Ok(pipeline.plan_job(&job)?.peak_bytes())
}

/// Prints the times of images in microseconds, once all is loaded and the JVM, which measures the
/// same, has compiled what it runs.
fn measure(pipeline: &Pipeline) -> Result<()> {
    let request = Request { prompt: "a red lighthouse".to_owned(), ..Request::default() };
    for round in 0..40 {
        let begin = Instant::now();
        pipeline.generate(&request, |_| ControlFlow::Continue(()))?;
        if round >= 20 {
            println!("image {}", begin.elapsed().as_micros());
        }
    }
    Ok(())
}

/// The images or frames of a case. What it hands in is written to files whose path begins with
/// `inputs`.
fn images_of(pipeline: &Pipeline, case: &Value, inputs: &Path) -> Result<Vec<RgbImage>> {
    let request = request(case)?;
    let go_on = |_: &pocketmuse::Step<'_>| ControlFlow::Continue(());
    let mut images = Vec::new();
    match case["work"].as_str() {
        Some("generate") => images = pipeline.generate(&request, go_on)?.images,
        Some("edit") => {
            let source = source(&case["source"], inputs)?;
            let Output { images: made, .. } = pipeline.edit(&request, &source, go_on)?;
            images = made;
        }
        Some("video") => {
            let video = video(&case["video"], inputs)?;
            pipeline.video(&request, &video, |event| {
                if let Event::Frame { image, .. } = event {
                    images.push(image);
                }
                ControlFlow::Continue(())
            })?;
        }
        other => return Err(format!("expected work, found {other:?}").into()),
    }
    Ok(images)
}

/// The request of a case. What it leaves out is as in [`Request::default`], and not as in a file
/// that leaves it out, whose brackets are text.
fn request(case: &Value) -> Result<Request> {
    let mut all = serde_json::to_value(Request::default())?;
    let fields = all.as_object_mut().ok_or("expected fields")?;
    fields.extend(case["request"].as_object().ok_or("expected a request")?.clone());
    Ok(serde_json::from_value(all)?)
}

fn rgba(image: &RgbImage) -> Result<Vec<u8>> {
    let stride = 4 * image.width() as usize;
    let mut bytes = vec![0; stride * image.height() as usize];
    write_rgba(image, &mut bytes, stride)?;
    Ok(bytes)
}

fn number(value: &Value) -> Result<u32> {
    Ok(value.as_u64().ok_or("expected a number")?.try_into()?)
}

fn four(value: &Value) -> Result<[u32; 4]> {
    let numbers: Vec<u32> = serde_json::from_value(value.clone())?;
    numbers.try_into().map_err(|_| "expected four numbers".into())
}

/// An image that a case hands in: made here, written for the others.
struct Handed {
    bytes: Vec<u8>,
    width: u32,
    height: u32,
    stride: usize,
    alpha: Alpha,
}

impl Handed {
    fn make(from: &Value, file: &Path) -> Result<Self> {
        let (width, height) = (number(&from["width"])?, number(&from["height"])?);
        let stride = number(&from["stride"])? as usize;
        let alpha = match from["alpha"].as_str() {
            Some("straight") => Alpha::Straight,
            Some("premultiplied") => Alpha::Premultiplied,
            Some("ignored") => Alpha::Ignored,
            other => return Err(format!("expected alpha, found {other:?}").into()),
        };
        let mut bytes = vec![9; stride * (height as usize - 1) + 4 * width as usize];
        for y in 0..height {
            for x in 0..width {
                let within = |at: u32, side: u32| (side / 4..side * 3 / 4).contains(&at);
                let is_hole = from["hole"] == true && within(x, width) && within(y, height);
                let colours = [7 * x, 5 * y, x * y].map(|value| (value & 255) as u8);
                let [red, green, blue] = if is_hole { [0; 3] } else { colours };
                let opacity = if is_hole || alpha == Alpha::Ignored { 0 } else { 255 };
                let at = y as usize * stride + 4 * x as usize;
                bytes[at..at + 4].copy_from_slice(&[red, green, blue, opacity]);
            }
        }
        fs::write(file, &bytes)?;
        Ok(Self { bytes, width, height, stride, alpha })
    }

    fn rgba(&self) -> Result<Rgba<'_>> {
        Ok(Rgba::new(&self.bytes, self.width, self.height, self.stride, self.alpha)?)
    }
}

fn source(from: &Value, inputs: &Path) -> Result<Source> {
    let image = Handed::make(from, &inputs.with_extension("rgba"))?;
    let mut source = image.rgba()?.source();
    if let Some(mask) = from.get("mask") {
        let (width, height) = (number(&mask["width"])?, number(&mask["height"])?);
        let stride = number(&mask["stride"])?;
        let white = |x: u32| if x < width / 2 { 255 } else { 0 };
        let mask = GrayImage::from_fn(width, height, |x, _| image::Luma([white(x)]));
        let rows = (0..height).flat_map(|_| (0..stride).map(white));
        fs::write(inputs.with_extension("mask"), rows.collect::<Vec<u8>>())?;
        source = Source::new(image.rgba()?.colours()).with_mask(mask);
    }
    if let Some(area) = from.get("area") {
        source = Source::new(image.rgba()?.colours()).with_box(four(area)?)?;
    }
    if let Some(sides) = from.get("extend") {
        source = source.extended(four(sides)?)?;
    }
    Ok(source.with_paste(from.get("paste").is_none_or(|paste| *paste == true)))
}

fn video(from: &Value, inputs: &Path) -> Result<Video> {
    let mut video = Video { frames: number(&from["frames"])?, ..Video::default() };
    if let Some(motion) = from.get("motion") {
        video.motion = serde_json::from_value(motion.clone())?;
    }
    if let Some(remask) = from.get("remask") {
        video.remask = serde_json::from_value(remask.clone())?;
    }
    if let Some(end) = from.get("end") {
        let end = Handed::make(end, &inputs.with_extension("rgba"))?;
        video.end = Some(end.rgba()?.colours());
    }
    Ok(video)
}
