//! How threads wait for work and share it (`Options::sharing`): what it costs in time and in
//! processor time, with the bundled model; first alone, then beside a process that keeps a core
//! busy. `cargo bench -p pocketmuse-benches --bench threads`.

use std::{
    fs,
    num::NonZeroU8,
    ops::ControlFlow,
    process::{Child, Command},
    time::{Duration, Instant},
};

use pocketmuse::{Flavour, Options, Pipeline, Request, Sharing};

/// Images of each kind; the kinds take turns, so that a machine that gets busy harms all alike.
const ROUNDS: usize = 15;

/// The time that this process has been on a processor, in steps of 10 ms; 0 where nobody says.
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

/// A process that keeps a core busy until this is dropped.
struct Neighbour(Child);

impl Neighbour {
    fn new() -> Self {
        let busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        Self(busy.expect("a shell"))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }
}

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return; // the images' equality is tested elsewhere; times mean nothing in a test run
    }
    pocketmuse_cli::runtime::start(false).expect("ONNX Runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let go_on = |_: &pocketmuse::Step<'_>| ControlFlow::Continue(());
    for flavour in [Flavour::F32, Flavour::Int8] {
        let package =
            pocketmuse_cli::bundled::package(folder.path(), flavour, |_| ControlFlow::Continue(()));
        let package = package.expect("the bundled model");
        let kinds = [(1, true, 0), (2, false, 0), (2, true, 0), (2, false, 4), (2, true, 4)];
        let pipelines = kinds.map(|(threads, sleeping_threads, base)| {
            let sharing = Sharing { sleeping_threads, dynamic_block_base: NonZeroU8::new(base) };
            let options = Options { threads: Some(threads), sharing, ..Options::default() };
            Pipeline::open_with(&package, &options).expect("a package")
        });
        let request = Request { prompt: "a red lighthouse".to_owned(), ..Request::default() };
        let expected = pipelines[0].generate(&request, go_on).expect("an image").images;
        for is_busy in [false, true] {
            let _neighbour = is_busy.then(Neighbour::new);
            let mut times = kinds.map(|_| Vec::new());
            let mut processor = kinds.map(|_| Duration::ZERO);
            for round in 0..=ROUNDS {
                for (index, pipeline) in pipelines.iter().enumerate() {
                    let (since, before) = (Instant::now(), processor_time());
                    let images = pipeline.generate(&request, go_on).expect("an image").images;
                    if round > 0 {
                        times[index].push(since.elapsed()); // the first loads the stages
                        processor[index] += processor_time() - before;
                    }
                    assert_eq!(images, expected);
                }
            }
            for (index, (threads, sleeping, base)) in kinds.into_iter().enumerate() {
                times[index].sort_unstable();
                println!(
                    "{flavour}, {}: {threads} {} threads, dynamic_block_base {base}: median \
                     {:.1?}, fastest {:.1?}, {:.1?} of processor time an image",
                    if is_busy { "beside a busy process" } else { "alone" },
                    if sleeping { "sleeping" } else { "spinning" },
                    times[index][ROUNDS / 2],
                    times[index][0],
                    processor[index] / ROUNDS as u32,
                );
            }
        }
    }
}
