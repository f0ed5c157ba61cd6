use pocketmuse_package::{Flavour, Held};
use serde_json::json;

use super::*;
use crate::request::{Providers, job::Saved, video::Video};

/// aMUSEd-512 in int8: the sizes that matter.
fn full_size() -> Manifest {
    let file = |name: &str, bytes: u64| {
        json!({
            "path": name,
            "bytes": bytes,
            "sha256": "0".repeat(64),
        })
    };
    let stage = |name: &str, [graph, weights]: [u64; 2], inputs: serde_json::Value| {
        let (graph, weights) = (file(name, graph), file(&format!("{name}.data"), weights));
        json!({ "graph": graph, "weights": weights, "inputs": inputs, "outputs": [] })
    };
    // 215 inputs in truth: all that the prologue makes, 22 MB for two branches.
    let primed = json!([
        { "name": "tokens", "dtype": "i64", "shape": [1, "height", "width"] },
        { "name": "guidance", "dtype": "f32", "shape": ["branches"] },
        { "name": "scale", "dtype": "f32", "shape": ["branches", 1, 1024] },
        { "name": "key", "dtype": "f16", "shape": ["branches", 12, 5958, 77] },
    ]);
    let manifest = json!({
        "format": 1,
        "exporter": "test",
        "model": {
            "name": "amused-512",
            "vocab_size": 8256,
            "codebook_size": 8192,
            "mask_token_id": 8255,
            "masking_schedule": "cosine",
            "sample_size": 32,
            "pixels_per_token": 16,
            "grid_multiple": 2,
        },
        "tokenizer": {
            "file": file("tokenizer.json", 3),
            "bos": 1,
            "eos": 2,
            "pad": 2,
            "max_tokens": 77,
        },
        "defaults": {
            "num_inference_steps": 12,
            "guidance_scale": 10.0,
            "temperature": [2.0, 0.0],
        },
        "flavours": { "int8": { "stages": {
            "text_encoder": stage("text_encoder", [106_140, 124_747_968], json!([])),
            "prologue": stage("prologue", [119_718, 135_499_776], json!([])),
            "step": stage("step", [328_706, 392_764_672], primed),
            "decoder": stage("decoder", [331_542, 94_704_128], json!([])),
            "encoder": stage("encoder", [105_831, 236_894_720], json!([])),
        } } },
    });
    Manifest::parse(manifest.to_string().as_bytes()).expect("a manifest")
}

fn plan(side: u32, memory: Budget, staged: bool) -> Result<Plan> {
    let request = Request { height: Some(side), width: Some(side), ..Request::default() };
    Plan::new(
        &full_size(),
        &request,
        &Options { memory, staged, threads: Some(2), ..Options::default() },
    )
}

/// The peaks are those of docs/memory.md, in 2^20 bytes, each stage alone and packed.
#[test]
fn full_size_peaks_are_predicted_from_above_and_closely() {
    for (side, measured) in [(512, [136, 195, 522, 240]), (256, [136, 195, 468, 167])] {
        let plan = plan(side, Budget::Bytes(1800 << 20), true).expect("it fits");
        for (stage, measured) in plan.stages.iter().zip(measured) {
            let predicted = stage.peak_rss_bytes >> 20;
            let what = format!(
                "{} at {side}: {predicted} * 2^20 predicted, {measured} taken",
                stage.stage
            );
            assert!((measured..measured * 27 / 20).contains(&predicted), "{what}");
        }
    }
}

/// The peaks are those of docs/memory.md, in MB, at the smallest budget.
#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn weights_pass_through_memory_where_the_budget_is_too_small_for_them() {
    let smallest = |side| {
        let refused = plan(side, Budget::Bytes(1 << 20), true).expect_err("too small");
        refused.amounts().expect("both numbers").needed
    };
    let plan_of = |side, bytes| plan(side, Budget::Bytes(bytes), true).expect("it fits");
    let passing = |plan: &Plan| {
        let passing = plan.stages.iter().filter(|stage| stage.window_bytes().is_some());
        passing.map(|stage| stage.stage.name()).collect::<Vec<_>>().join(" ")
    };
    let least = plan_of(512, smallest(512));
    assert_eq!(passing(&least), "step decoder", "{least}");
    let measured = [(Stage::Step, 178), (Stage::Decoder, 178)];
    for (stage, measured) in measured {
        let predicted = least.stage(stage).peak_rss_bytes / 1_000_000;
        assert!((measured..measured * 5 / 4).contains(&predicted), "{stage}: {least}");
    }
    let step = least.stage(Stage::Step);
    assert!(step.peak_rss_bytes < step.weights_bytes, "{least}");
    assert_eq!(step.kept()[0], GRAPH_BYTES + step.working_bytes, "all left after a run: {least}");
    assert!(least.to_string().contains("passing 34 MB"), "{least}");
    let all = least.peak_address_bytes() - least.peak_rss_bytes();
    assert!(all > step.weights_bytes, "all is mapped, and somebody watches: {least}");
    assert_eq!(passing(&plan_of(512, 400_000_000)), "step", "the decoder fits");
    assert_eq!(passing(&plan_of(512, 600_000_000)), "", "all fit, and none needs to pass");
    assert_eq!(passing(&plan_of(256, smallest(256))), "step");
}

#[test]
fn what_is_left_of_the_budget_is_spent_on_time() {
    let said = |memory: u64, staged| {
        let plan = plan(256, Budget::Bytes(memory << 20), staged).expect("it fits");
        assert!(plan.peak_rss_bytes() <= plan.budget_bytes, "{plan}");
        let names = |of: fn(&StagePlan) -> bool| {
            let stages = plan.stages.iter().filter(|stage| of(stage));
            stages.map(|stage| stage.stage.name()).collect::<Vec<_>>().join(" ")
        };
        [names(|stage| stage.warm), names(StagePlan::is_packed)]
    };
    assert_eq!(
        said(600, true),
        ["", "text_encoder prologue decoder"],
        "packed as far as half of the budget"
    );
    let all = "text_encoder prologue step decoder";
    let passes = cfg!(any(target_os = "linux", target_os = "android"));
    if passes {
        assert_eq!(said(600, false), [all, "prologue"], "what passes leaves room for all");
        assert_eq!(said(1000, false), [all, "text_encoder prologue"]);
    } else {
        assert_eq!(said(600, false), ["", "text_encoder prologue decoder"], "no stage may stay");
        assert_eq!(said(800, false)[0], "step", "the largest stays");
    }
    assert_eq!(said(8000, true), ["", "text_encoder prologue step decoder"]);
    assert_eq!(said(8000, false), [all, all]);
}

#[test]
fn an_edit_needs_the_encoder_too() {
    let request = Request { strength: Some(0.5), ..Request::default() };
    let options =
        Options { memory: Budget::Bytes(8 << 30), threads: Some(2), ..Options::default() };
    let plan = Plan::new(&full_size(), &request, &options).expect("it fits");
    let StagePlan { stage, warm, peak_rss_bytes, .. } = plan.stages[0];
    assert_eq!(
        (stage, warm, plan.stages.len()),
        (Stage::Encoder, false, 5),
        "first, and dropped after use"
    );
    let others: u64 = plan.stages[1..].iter().map(|stage| stage.kept()[0]).sum();
    let alone = (peak_rss_bytes - others) >> 20;
    assert!((878..878 * 5 / 4).contains(&alone), "{alone} * 2^20 predicted, 878 taken");
    let small = Options { memory: Budget::Bytes(700 << 20), ..options };
    assert_eq!(
        Plan::new(&full_size(), &request, &small).expect_err("too small").kind(),
        ErrorKind::NotEnoughMemory
    );
}

#[test]
fn the_smallest_budget_is_said_and_is_enough() {
    let error = plan(512, Budget::Bytes(200_000_000), true).expect_err("too small");
    assert_eq!((error.kind(), error.at()), (ErrorKind::NotEnoughMemory, "memory"));
    let said = error
        .detail()
        .strip_prefix("expected a budget of at least ")
        .and_then(|rest| rest.split_once(' '));
    let (smallest, rest) = said.expect("a size");
    assert_eq!(rest, "for 512 x 512 pixels, found 200MB");
    let Amounts { needed, available } = error.amounts().expect("both numbers");
    assert_eq!(available, 200_000_000);
    assert_eq!(
        Budget::Bytes(needed.next_multiple_of(1_000_000)),
        smallest.parse().expect("a size")
    );
    let plan = plan(512, Budget::Bytes(needed), false).expect("enough to the byte");
    assert!(plan.to_string().contains("alone"), "{plan}");
}

#[test]
fn an_automatic_budget_that_is_too_small_is_tried_all_the_same() {
    let manifest = full_size();
    let job = Job::new(&Request::default(), &manifest).expect("a request");
    let plan = |memory| {
        let options = Options { memory, threads: Some(2), ..Options::default() };
        Plan::within(&manifest, (&job, &BTreeMap::new()), &options, 100 << 20)
    };
    let plan_of_auto = plan(Budget::Auto).expect("tried");
    assert!(plan_of_auto.peak_rss_bytes() > plan_of_auto.budget_bytes, "{plan_of_auto}");
    assert!(plan_of_auto.stages.iter().all(|stage| !stage.warm), "{plan_of_auto}");
    let packed = plan_of_auto.stages.iter().filter(|stage| stage.is_packed());
    let packed: Vec<_> = packed.map(|stage| stage.stage).collect();
    assert_eq!(packed, [Stage::Prologue], "where that takes less memory");
    let error = plan(Budget::Bytes(100 << 20)).expect_err("asked for");
    assert_eq!((error.kind(), error.at()), (ErrorKind::NotEnoughMemory, "memory"));
}

#[test]
fn weights_in_halves_are_planned_with_the_copy_that_a_cpu_makes() {
    let step = |linear_bits| {
        let mut manifest = full_size();
        let stages = &mut manifest.flavours.get_mut(&Flavour::Int8).expect("a flavour").stages;
        let entry = stages.get_mut(&Stage::Step).expect("a step graph");
        entry.held = Some(Held { linear_bits, ..Held::FLOATS });
        let options =
            Options { memory: Budget::Bytes(4 << 30), threads: Some(2), ..Options::default() };
        Plan::new(&manifest, &Request::default(), &options).expect("it fits").stage(Stage::Step)
    };
    let [floats, halves] = [32, 16].map(step);
    assert_eq!(halves.weights_bytes, 3 * floats.weights_bytes);
    assert!(halves.is_packed() && halves.peak_anonymous_bytes > halves.weights_bytes);
}

#[test]
fn a_stage_takes_what_the_manifest_says_it_holds_not_what_its_flavour_is_called() {
    let mut manifest = full_size();
    let stages = &mut manifest.flavours.get_mut(&Flavour::Int8).expect("a flavour").stages;
    for (stage, entry) in stages.iter_mut() {
        entry.held = Some(Held::of(Flavour::Int8, *stage));
    }
    let decoder = |manifest: &Manifest| {
        let options =
            Options { memory: Budget::Bytes(4 << 30), threads: Some(2), ..Options::default() };
        let plan = Plan::new(manifest, &Request::default(), &options).expect("it fits");
        (plan.clone(), plan.stage(Stage::Decoder).working_bytes)
    };
    let (said, integer) = decoder(&manifest);
    assert_eq!(said, decoder(&full_size()).0, "what older packages do not say is derived");
    let stages = &mut manifest.flavours.get_mut(&Flavour::Int8).expect("a flavour").stages;
    stages.get_mut(&Stage::Decoder).expect("a decoder").held = Some(Held::FLOATS);
    let (_, float) = decoder(&manifest);
    // By the constants of `demand`: 560 + 0.22 sqrt(weight bytes) for each pixel in floats, 40
    // + 0.036 sqrt(weight bytes) and 0.12 of the weights in integers; about 6 times as much.
    assert!(float > 3 * integer, "{float} bytes in floats, {integer} in integers");
}

#[test]
fn the_encoder_counts_where_it_runs() {
    let (manifest, options) = (full_size(), Options { threads: Some(2), ..Options::default() });
    let image = Job::new(&Request::default(), &manifest).expect("a request");
    let end = Some(image::RgbImage::new(8, 8));
    let film = |end| Job {
        video: Some(Video { end, ..Video::default() }),
        ..Job::new(&Request::default(), &manifest).expect("a request")
    };
    let saved = |job: &Job| {
        let saved = Saved { next_step: 1, ..Saved::default() };
        Job { saved: Some(saved), ..job.clone() }
    };
    let strength = Request { strength: Some(0.5), ..Request::default() };
    let edit = Job::new(&strength, &manifest).expect("a request");
    let cases = [
        (image, false),
        (film(None), false),
        (saved(&film(end.clone())), false),
        (film(end), true),
        (saved(&edit), false),
        (edit, true),
    ];
    for (job, expected) in cases {
        let needed = (&job, &BTreeMap::new());
        let plan = Plan::within(&manifest, needed, &options, 4 << 30).expect("it fits");
        let encodes = plan.stages.iter().any(|stage| stage.stage == Stage::Encoder);
        assert_eq!(encodes, expected, "{plan}");
    }
}

#[test]
fn where_pages_of_files_cost_nothing_nothing_is_packed_and_more_fits() {
    let (manifest, options) = (full_size(), Options { threads: Some(2), ..Options::default() });
    // So large that the decoder takes most, not the prologue.
    let request = Request { height: Some(768), width: Some(768), ..Request::default() };
    let job = Job::new(&request, &manifest).expect("a request");
    let plan = |counted, budget_bytes| {
        let memory = Budget::Bytes(budget_bytes);
        let options = Options { memory, ..options.clone() };
        Plan::counting(counted, &manifest, (&job, &BTreeMap::new()), (&options, budget_bytes))
    };
    let refused = plan(Counted::Anonymous, 1 << 20).expect_err("too small");
    let budget = refused.amounts().expect("both numbers").needed;
    let error = plan(Counted::Resident, budget).expect_err("the decoder alone is more");
    assert_eq!(error.kind(), ErrorKind::NotEnoughMemory);
    let fits = plan(Counted::Anonymous, budget).expect("its weights are mapped");
    assert!(fits.peak_bytes() == fits.peak_anonymous_bytes() && fits.peak_bytes() <= budget);
    assert!(fits.peak_rss_bytes() > budget, "{fits}");
    let plan = plan(Counted::Anonymous, 8 << 30).expect("room for all");
    let packed = plan.stages.iter().filter(|stage| stage.is_packed()).map(|stage| stage.stage);
    assert_eq!(packed.collect::<Vec<_>>(), [Stage::Prologue], "where that takes less memory");
    assert!(plan.stages.iter().all(|stage| stage.warm), "{plan}");
}

#[test]
fn a_package_without_the_flavour_says_which_it_has() {
    let options = Options { flavour: Some(Flavour::Int4), ..Options::default() };
    let error = Plan::new(&full_size(), &Request::default(), &options).expect_err("int8 alone");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "flavour: expected one of this package (int8), found int4");
}

/// The step of a full-size model in f32 took 3.3 GB on OpenVINO, that in 8 bits 1.28 GB.
#[test]
fn another_provider_takes_what_it_takes() {
    let step = |manifest: &Manifest, memory, providers: &str, needs: &BTreeMap<Stage, Need>| {
        let stages = Providers::stages_of(providers).expect("known");
        let providers = Providers { stages, ..Providers::default() };
        let options =
            Options { memory, providers, threads: Some(2), staged: true, ..Options::default() };
        let job = Job::new(&Request::default(), manifest).expect("a job");
        Plan::within(manifest, (&job, needs), &options, memory.bytes())
    };
    let (int8, plenty, none) = (full_size(), Budget::Bytes(8 << 30), BTreeMap::new());
    let cpu = step(&int8, plenty, "cpu", &none).expect("it fits");
    let other = step(&int8, plenty, "step=openvino", &none).expect("it fits");
    let [by_cpu, by_other] = [&cpu, &other].map(|plan| plan.stage(Stage::Step));
    assert_eq!(by_other.provider, Provider::OpenVino);
    assert!((1280..3300).contains(&(by_other.peak_rss_bytes >> 20)), "{other}");
    assert!(!by_other.is_measured && by_other.peak_anonymous_bytes == by_other.peak_rss_bytes);
    assert_eq!(cpu.to_string().lines().count() + 1, other.to_string().lines().count());
    assert!(other.to_string().contains("step: what openvino takes is estimated"), "{other}");
    // The libraries are there whoever runs.
    let rest = |plan: &Plan| plan.stage(Stage::Decoder).peak_rss_bytes;
    assert_eq!(rest(&other) - rest(&cpu), providers::library_bytes(Provider::OpenVino));

    let budget = Budget::Bytes(900 << 20);
    step(&int8, budget, "cpu", &none).expect("it fits");
    let error = step(&int8, budget, "step=openvino", &none).expect_err("too small");
    assert_eq!(error.kind(), ErrorKind::NotEnoughMemory);
    let needs = [(Stage::Step, Need { held_bytes: 400 << 20, peak_bytes: 500 << 20 })].into();
    let measured = step(&int8, budget, "step=openvino", &needs).expect("so much it takes");
    let StagePlan { is_measured, weights_bytes, working_bytes, .. } = measured.stage(Stage::Step);
    assert_eq!((is_measured, weights_bytes, working_bytes), (true, 400 << 20, 100 << 20));
    assert_eq!(step(&int8, plenty, "cpu", &needs).expect("it fits"), cpu, "the CPU's is its own");
    assert!(by_cpu.peak_rss_bytes < by_other.peak_rss_bytes);
}
