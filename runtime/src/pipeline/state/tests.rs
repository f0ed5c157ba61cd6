use serde_json::{Value, json};

use super::*;
use crate::request::RngKind;

fn state() -> State {
    State {
        package: Digest::of(b"package"),
        flavour: Flavour::F32,
        providers: [(Stage::Step, Provider::OpenVino)].into(),
        request: Request {
            prompt: "ein \"Turm\" \u{1F680}".to_owned(),
            strength: Some(0.1),
            ..Request::default()
        },
        source: Some(Digest::of(b"image")),
        next_step: 3,
        tokens: vec![Some(3), None, Some(7)],
        rng: Rng::new(RngKind::Torch, 9),
        video: None,
        image: None,
    }
}

#[test]
fn comes_back_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("job.json");
    for next_step in 3..5 {
        let state = State { next_step, ..state() };
        save(&state, &path).expect("written");
        assert_eq!(load::<State>(&path).expect("a job"), state);
    }
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1, "nothing else is left");
}

#[test]
fn a_change_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("job.json");
    save(&state(), &path).expect("written");
    let text = fs::read_to_string(&path).expect("written");
    let cases = [
        (text.replace("\"next_step\":3", "\"next_step\":4"), "the job was changed"),
        (text.replace("[3,null,7]", "[3,4,7]"), "the job was changed"),
        (
            text.replace("\"pocketmuse_job\":1", "\"pocketmuse_job\":2"),
            "expected a job of version 1, found version 2",
        ),
        (
            text.replace("\"tokens\"", "\"token\""),
            "expected a job saved by pocketmuse, found: unknown field",
        ),
        (text[..text.len() / 2].to_owned(), "expected a job saved by pocketmuse, found: EOF"),
        ("{}".to_owned(), "expected a job saved by pocketmuse, found: missing field"),
        ("[1]".to_owned(), "expected a job saved by pocketmuse"),
        (String::new(), "expected a job saved by pocketmuse"),
    ];
    for (changed, expected) in cases {
        assert_ne!(changed, text);
        fs::write(&path, changed).expect("written");
        let error = load::<State>(&path).expect_err(expected);
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(error.to_string().contains(expected), "expected {expected}, found {error}");
    }
    fs::write(&path, text.replace(',', ",\n ")).expect("written");
    assert!(load::<State>(&path).is_ok(), "spaces are no change");
    let error = load::<State>(folder.path()).expect_err("a folder");
    assert!(
        error.kind() == ErrorKind::BadInput && error.to_string().ends_with("found no file"),
        "{error}"
    );
}
#[test]
fn who_began_goes_on_or_can_be_chosen_to() {
    let (step, cpu) = (Stage::Step, Provider::Cpu);
    let found = |stages: &[(Stage, Provider)], libraries: &[Provider]| {
        let libraries = libraries.iter().map(|provider| (*provider, "/lib".into()));
        let stages = stages.iter().copied().collect();
        let providers =
            Providers { stages, libraries: libraries.collect(), ..Providers::default() };
        state().check_providers(&providers).map_err(|error| error.detail().to_owned())
    };
    let all = Stage::ALL.map(|stage| (stage, Provider::Auto));
    assert_eq!(found(&[(step, Provider::OpenVino)], &[]), Ok(()));
    assert_eq!(found(&[(step, Provider::OpenVino), (Stage::Decoder, cpu)], &[]), Ok(()));
    assert_eq!(found(&all, &[Provider::Qnn, Provider::OpenVino]), Ok(()));
    let expected = "expected step by openvino, as the job began, found ";
    let others: [(&[_], &[_], _); 3] = [
        (&[], &[Provider::OpenVino], "cpu"),
        (&[(step, Provider::Qnn)], &[Provider::OpenVino], "qnn"),
        (&all, &[Provider::Qnn], "auto without a library of openvino"),
    ];
    for (stages, libraries, what) in others {
        assert_eq!(found(stages, libraries), Err(format!("{expected}{what}")));
    }
    let error = found(&[(step, Provider::OpenVino), (Stage::Decoder, Provider::Qnn)], &[]);
    let expected = "expected decoder by cpu, as the job began, found qnn";
    assert_eq!(error, Err(expected.to_owned()));
}

/// Puts `value` in place of each value inside, one at a time.
fn changes(inside: &Value, value: &Value) -> Vec<Value> {
    let with = |put: &dyn Fn(&mut Value, Value), part: &Value| {
        let deeper = changes(part, value).into_iter().chain([value.clone()]);
        let changed = deeper.map(|deeper| {
            let mut whole = inside.clone();
            put(&mut whole, deeper);
            whole
        });
        changed.collect::<Vec<_>>()
    };
    match inside {
        Value::Object(parts) => parts
            .iter()
            .flat_map(|(name, part)| with(&|whole, part| whole[name] = part, part))
            .collect(),
        Value::Array(parts) => (0..)
            .zip(parts)
            .flat_map(|(at, part): (usize, _)| with(&|whole, part| whole[at] = part, part))
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn whatever_is_changed_by_hand_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("job.json");
    save(&state(), &path).expect("written");
    let saved: Value = serde_json::from_slice(&fs::read(&path).expect("written")).expect("JSON");
    let mut tried = 0;
    for value in [
        json!(null),
        json!(0),
        json!(-1),
        json!(1e300),
        json!(true),
        json!("x"),
        json!([]),
        json!({}),
    ] {
        for changed in changes(&saved, &value).into_iter().filter(|changed| *changed != saved) {
            fs::write(&path, changed.to_string()).expect("written");
            match load::<State>(&path) {
                Ok(found) => {
                    assert_eq!(found, state(), "another way to write the same: {changed}")
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::BadInput, "{error}"),
            }
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
}
