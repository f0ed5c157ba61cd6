//! What a process writes and says besides its images: nothing in a user's home, and no prompt; and
//! what it says where the system keeps its weights in memory. Each claim needs a process of its own,
//! so this is no part of the other binary.

#[path = "../integration/support.rs"]
#[allow(dead_code, unused_imports, reason = "the other binary uses the rest")]
mod support;

use std::{
    env,
    error::Error as _,
    fs,
    ops::ControlFlow,
    panic::{self, AssertUnwindSafe},
    path::Path,
    process::Command,
    sync::Mutex,
};

use image::RgbImage;
use log::{LevelFilter, Log, Metadata, Record};
use pocketmuse::{
    Error, Options, Origin, Pipeline, Request, Runtime, Source, Step, Video,
    job::{self, State},
    library,
};

/// Makes this binary make one image, with the package that it names.
const CHILD: &str = "POCKETMUSE_SILENT_PACKAGE";
/// The word of the prompts, in no case a part of anything else.
const SECRET: &str = "xylophonist";

/// All that was logged.
static LOGGED: Mutex<String> = Mutex::new(String::new());

fn main() {
    if let Some(package) = env::var_os(CHILD) {
        return make_one_image(package.as_ref());
    }
    log::set_logger(&Logger).expect("the only one");
    log::set_max_level(LevelFilter::Trace);
    let claims: [(&str, fn()); 3] = [
        ("an_image_in_a_fresh_home_leaves_nothing_there", an_image_in_a_fresh_home),
        ("a_prompt_is_in_no_log_no_error_and_no_panic", a_prompt_is_nowhere),
        ("weights_that_may_not_leave_memory_stay_and_the_image_is_the_same", weights_stay),
    ];
    let filters: Vec<_> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| filters.is_empty() || filters.iter().any(|it| name.contains(it));
    let wanted = claims.into_iter().filter(|(name, _)| is_wanted(name));
    let passed = wanted.map(|(name, claim)| {
        claim();
        println!("test {name} ... ok");
    });
    println!("test result: ok. {} passed; 0 failed", passed.count());
}

fn go_on(_: &Step<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The child: a program that knows nothing of usage reports, before it starts a thread.
fn make_one_image(package: &Path) {
    let pipeline = Pipeline::open(package).unwrap_or_else(|error| panic!("{error}"));
    let request = Request { num_inference_steps: Some(1), ..Request::default() };
    pipeline.generate(&request, go_on).unwrap_or_else(|error| panic!("{error}"));
    if cfg!(target_os = "linux") {
        assert_eq!(env::var("ORT_DISABLE_TELEMETRY").as_deref(), Ok("1"), "switched off by itself");
    }
}

fn an_image_in_a_fresh_home() {
    support::runtime();
    let package = support::package("tiny-256");
    let library = Runtime::start(None).expect("started").path().to_owned();
    let [home, temporary] = [(), ()].map(|()| tempfile::tempdir().expect("a folder"));
    let mut child = Command::new(env::current_exe().expect("this binary"));
    for name in ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"] {
        child.env_remove(name);
    }
    child.env_remove("ORT_DISABLE_TELEMETRY").env(library::VARIABLE, library).env(CHILD, package);
    child.env("HOME", home.path()).env("TMPDIR", temporary.path()).current_dir(home.path());
    let status = child.status().expect("started");
    assert!(status.success(), "{status}");
    for folder in [home, temporary] {
        let left: Vec<_> = fs::read_dir(folder.path()).expect("there").flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        note(&format!("{} {}: {}", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

fn note(text: &str) {
    let mut logged = LOGGED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    logged.push_str(text);
    logged.push('\n');
}

/// Notes all that an error shows. Returns whether there was one.
fn failed<T>(result: Result<T, Error>) -> bool {
    let Err(error) = result else { return false };
    note(&format!("{error}\n{error:?}\n{error:#?}"));
    let mut source = error.source();
    while let Some(error) = source {
        note(&format!("{error}\n{error:?}"));
        source = error.source();
    }
    true
}

fn prompt_of(prompt: String) -> Request {
    let negative_prompt = format!("no {SECRET}");
    Request { prompt, negative_prompt, num_inference_steps: Some(2), ..Request::default() }
}

fn a_prompt_is_nowhere() {
    support::runtime();
    panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        note(&format!("{panic}\n{panic:?}"));
    }));
    let package = support::package("tiny-world");
    let prepared = tempfile::tempdir().expect("a folder");
    let options = Options {
        prepared: Some(prepared.path().to_owned()),
        measure_memory: true,
        ..Options::default()
    };
    let pipeline =
        Pipeline::open_with(&package, &options).unwrap_or_else(|error| panic!("{error}"));
    let plain = prompt_of(format!("a {SECRET} by the sea"));

    // What works: plain, weighted, more words than fit, more than one job.
    let mut states = Vec::new();
    for prompt in [
        plain.prompt.clone(),
        format!("a ({SECRET}:1.5) and a [{SECRET}]"),
        format!("{SECRET} ").repeat(200),
        format!("{SECRET}\u{0}\u{202e}\u{1F680}\n{{}}%s\\"),
    ] {
        let made = pipeline.generate(&prompt_of(prompt), |step| {
            states.push(pipeline.state(step));
            ControlFlow::Continue(())
        });
        assert!(!failed(made));
    }
    let source = Source::new(RgbImage::new(64, 64));
    assert!(!failed(pipeline.edit(&plain, &source, go_on)));
    assert!(!failed(pipeline.trace(&plain, None, go_on)));
    let film = Video { frames: 2, ..Video::default() };
    assert!(!failed(pipeline.video(&plain, &film, |_| ControlFlow::Continue(()))));
    assert!(!failed(pipeline.resume(&states[0], None, go_on)));

    // What fails: by the prompt, by another field, on the way, in a package, in a kept job.
    for prompt in
        [format!("(({SECRET}:9):9)"), format!("((({SECRET}:9):9):9)"), SECRET.repeat(9999)]
    {
        assert!(failed(pipeline.generate(&prompt_of(prompt), go_on)));
    }
    let wrong = Request { height: Some(7), ..plain.clone() };
    assert!(failed(pipeline.generate(&wrong, go_on)) && failed(pipeline.plan(&wrong)));
    assert!(failed(pipeline.generate(&plain, |_| ControlFlow::Break(()))));
    let changed = Request { seed: 99, ..states[0].request.clone() };
    assert!(failed(pipeline.job(&changed, Origin::Saved(&states[0], None))));
    let bytes = states[0].to_bytes();
    for end in [5, bytes.len() / 2, bytes.len() - 1] {
        assert!(failed(State::from_bytes(&bytes[..end])));
    }
    let file = prepared.path().join("job.json");
    job::save(&states[0], &file).unwrap_or_else(|error| panic!("{error}"));
    let text = fs::read_to_string(&file).expect("written");
    for text in [&text[..text.len() / 2], &text.replace("\"seed\":0", "\"seed\":1")] {
        fs::write(&file, text).expect("written");
        assert!(failed(job::load::<State>(&file)));
    }
    let copy = prepared.path().join("copy");
    support::link_folder(&package, &copy);
    fs::remove_file(copy.join("f32/step.data")).expect("a link");
    fs::write(copy.join("f32/step.data"), vec![0; 9]).expect("written");
    assert!(failed(Pipeline::open(&copy)));

    // What panics within a job.
    let made = panic::catch_unwind(AssertUnwindSafe(|| {
        let made = pipeline.generate(&plain, |_| panic!("the caller's own"));
        failed(made)
    }));
    assert!(made.is_err() || made.is_ok_and(|failed| failed));

    drop(panic::take_hook());
    let logged = LOGGED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).to_lowercase();
    for expected in ["bytes checked", "loaded in", "the caller's own", "height"] {
        assert!(logged.contains(expected), "{expected:?} is missing: {logged}");
    }
    assert!(!logged.contains("tokenizers::"), "it tells every letter of a prompt");
    assert_eq!(log::max_level(), LevelFilter::Trace, "as it was");
    let at = logged.find(SECRET).map(|at| &logged[at.saturating_sub(200)..]);
    assert_eq!(at, None, "the prompt was told");
}

/// A system refuses to take back memory that is locked.
#[cfg(target_os = "linux")]
fn weights_stay() {
    use pocketmuse::Budget;
    use rustix::mm::{MlockAllFlags, mlockall, munlockall};

    support::runtime();
    let package = support::package("tiny-world");
    let request = Request { num_inference_steps: Some(2), ..Request::default() };
    let open = |memory| {
        let options = Options { memory, ..Options::default() };
        Pipeline::open_with(&package, &options).unwrap_or_else(|error| panic!("{error}"))
    };
    let refused = open(Budget::Bytes(1)).plan(&request).expect_err("too small");
    let smallest = Budget::Bytes(refused.amounts().expect("a size").needed);
    let made = || {
        let pipeline = open(smallest);
        let plan = pipeline.plan(&request).expect("enough").to_string();
        assert!(plan.contains("passing"), "{plan}");
        pipeline.generate(&request, go_on).unwrap_or_else(|error| panic!("{error}")).images
    };
    let refusals = || {
        let logged = LOGGED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        logged.matches("weights stay mapped, since they cannot leave memory").count()
    };
    let images = made();
    assert_eq!(refusals(), 0);
    if let Err(error) = mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        return println!("skipped: no memory may be locked: {error}");
    }
    let locked = made();
    munlockall().expect("as it was");
    assert!(refusals() > 0 && locked == images, "{} refusals", refusals());
}

#[cfg(not(target_os = "linux"))]
fn weights_stay() {
    println!("skipped: weights pass through memory on Linux and Android alone");
}
