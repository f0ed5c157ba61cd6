//! A damaged or foreign checkpoint gives an error that says what and where, and leaves nothing
//! behind.

use std::{fs, ops::ControlFlow, path::Path};

use pocketmuse_export::{ErrorKind, Options};
use pocketmuse_package::Flavour;
use proptest::{
    prelude::{ProptestConfig, any},
    test_runner::TestRunner,
};
use safetensors::Dtype;
use serde_json::json;

use crate::support::{
    Tensor, calibrate, change_json, change_tensors, changed, export, export_flavours, names,
    replace,
};

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";

/// Exports a changed copy of `tiny-512` and expects an error holding all of `expected`.
fn refused(expected: &[&str], change: impl FnOnce(&Path)) {
    let (folder, copy) = changed("tiny-512");
    change(&copy);
    let error = export(&copy, &folder.path().join("package")).map(|_| ()).expect_err(expected[0]);
    for part in expected {
        assert!(error.to_string().contains(part), "expected {part:?}, found {error}");
    }
    assert!(matches!(error.kind(), ErrorKind::BadCheckpoint | ErrorKind::NotFound), "{error}");
    assert_eq!(names(folder.path()), ["checkpoint"], "nothing half-written stays: {error}");
}

#[test]
fn tensors() {
    type Case = (&'static [&'static str], fn(&Path));
    let cases: [Case; 8] = [
        (&["to_q.weight: expected a tensor [24, 24], found none"], |path| {
            change_tensors(path, |t| drop(t.remove("transformer_layers.1.attn1.to_q.weight")));
        }),
        (&["layers.0.ff.net.2.weight: expected [24, 40], found F32 [40, 24]"], |path| {
            change_tensors(path, |t| {
                t.get_mut("transformer_layers.0.ff.net.2.weight").expect("there").shape.reverse();
            });
        }),
        (&["expected f32, f16 or bf16, found I32"], |path| {
            change_tensors(path, |t| {
                t.get_mut("encoder_proj.weight").expect("there").dtype = Dtype::I32
            });
        }),
        (&["encoder_proj.weight", "expected finite values, found NaN at index 3"], |path| {
            change_tensors(path, |t| {
                t.get_mut("encoder_proj.weight").expect("there").bytes[12..16]
                    .copy_from_slice(&f32::NAN.to_le_bytes());
            });
        }),
        (&["embed.embeddings.weight", "expected finite values, found inf"], |path| {
            change_tensors(path, |t| {
                let bytes = &mut t.get_mut("embed.embeddings.weight").expect("there").bytes;
                bytes[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
            });
        }),
        (&["truncated file?"], |path| {
            let bytes = fs::read(path).expect("there");
            replace(path, &bytes[..bytes.len() - 100]);
        }),
        (&["header", "expected a header of at most"], |path| {
            let mut bytes = fs::read(path).expect("there");
            bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
            replace(path, &bytes);
        }),
        (&["header", "expected at least 8 bytes, found 3"], |path| replace(path, b"abc")),
    ];
    for (expected, change) in cases {
        refused(expected, |copy| change(&copy.join(TRANSFORMER)));
    }
    refused(&["transformer", "found none"], |copy| {
        fs::remove_file(copy.join(TRANSFORMER)).expect("removed")
    });
}

#[test]
fn configs() {
    let cases = [
        ("transformer", "hidden_size", json!(null), "hidden_size"),
        ("transformer", "hidden_size", json!(0), "hidden_size: expected 1 to"),
        (
            "transformer",
            "num_hidden_layers",
            json!(4_000_000_000u32),
            "num_hidden_layers: expected 1 to",
        ),
        (
            "transformer",
            "num_attention_heads",
            json!(5),
            "hidden_size: expected a multiple of num_attention_heads 5",
        ),
        (
            "transformer",
            "codebook_size",
            json!(47),
            "codebook_size: expected 48 (vqvae num_vq_embeddings), found 47",
        ),
        ("transformer", "encoder_hidden_size", json!(17), "encoder_hidden_size: expected 16"),
        ("transformer", "micro_cond_embed_dim", json!(31), "micro_cond_embed_dim: expected 30"),
        ("transformer", "use_bias", json!(true), "use_bias: expected false"),
        ("transformer", "upsample", json!(false), "upsample: expected as downsample"),
        (
            "transformer",
            "intermediate_size",
            json!(41),
            "ff.net.0.proj.weight: expected [82, 24], found F32 [80, 24]",
        ),
        ("text_encoder", "hidden_act", json!("gelu"), "hidden_act: expected quick_gelu"),
        (
            "text_encoder",
            "layer_norm_eps",
            json!(0.0),
            "layer_norm_eps: expected a positive number",
        ),
        (
            "text_encoder",
            "vocab_size",
            json!(700),
            "token_embedding.weight: expected [700, 16], found F32 [712, 16]",
        ),
        (
            "vqvae",
            "norm_num_groups",
            json!(3),
            "block_out_channels: expected a multiple of norm_num_groups 3",
        ),
        (
            "vqvae",
            "up_block_types",
            json!(["UpBlock2D"]),
            "up_block_types: expected 3 times UpDecoderBlock2D",
        ),
        (
            "vqvae",
            "mid_block_add_attention",
            json!(true),
            "mid_block_add_attention: expected false",
        ),
        ("vqvae", "block_out_channels", json!([]), "block_out_channels"),
        ("scheduler", "mask_token_id", json!(64), "mask_token_id: expected 48 to 63, found 64"),
        ("scheduler", "masking_schedule", json!("sqrt"), "scheduler_config.json"),
    ];
    for (network, key, value, expected) in cases {
        let config = if network == "scheduler" { "scheduler_config.json" } else { "config.json" };
        refused(&[expected], |copy| {
            change_json(&copy.join(network).join(config), |config| {
                let config = config.as_object_mut().expect("an object");
                if value.is_null() {
                    drop(config.remove(key))
                } else {
                    drop(config.insert(key.to_owned(), value))
                }
            });
        });
    }
}

#[test]
fn folders_that_are_no_checkpoints() {
    refused(&["expected a checkpoint in the hub layout", "found no vqvae"], |copy| {
        fs::remove_dir_all(copy.join("vqvae")).expect("removed");
    });
    refused(&["tokenizer", "vocab.json"], |copy| {
        fs::remove_file(copy.join("tokenizer/tokenizer.json")).expect("removed")
    });
    let folder = tempfile::tempdir().expect("a folder");
    let error = export(&folder.path().join("nowhere"), &folder.path().join("package"))
        .map(|_| ())
        .expect_err("missing");
    assert!(error.to_string().contains("nowhere: No such file"), "{error}");
}

#[test]
fn extra_tensors_are_a_warning_that_lists_them() {
    let (folder, copy) = changed("tiny-512");
    change_tensors(&copy.join(TRANSFORMER), |tensors| {
        let tensor = Tensor { dtype: Dtype::F32, shape: vec![1], bytes: vec![0; 4] };
        tensors.insert("critic.weight".to_owned(), tensor.clone());
        tensors.insert("critic.bias".to_owned(), tensor);
    });
    let summary =
        export(&copy, &folder.path().join("package")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        summary.warnings,
        ["transformer: 2 tensors that the architecture does not use: critic.bias, critic.weight"]
    );
}

#[test]
fn output_folders() {
    let (folder, copy) = changed("tiny-512");
    let target = folder.path().join("package");
    let error =
        export(&copy, &folder.path().join("no/such/package")).map(|_| ()).expect_err("no parent");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    export_flavours(&copy, &target, &[Flavour::F32]).unwrap_or_else(|error| panic!("{error}"));
    let before = fs::read(target.join("manifest.json")).expect("a manifest");
    let error = export(&copy, &target).map(|_| ()).expect_err("there already");
    assert!(error.to_string().contains("expected a folder that does not exist yet"), "{error}");
    let overwrite = Options { flavours: vec![Flavour::F32], overwrite: true, ..Options::default() };
    let again = pocketmuse_export::export(&copy, &target, &overwrite, calibrate, |_| {
        ControlFlow::Continue(())
    });
    again.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(fs::read(target.join("manifest.json")).expect("a manifest"), before);
    let error = pocketmuse_export::export(&copy, &copy, &overwrite, calibrate, |_| {
        ControlFlow::Continue(())
    })
    .map(|_| ());
    assert!(error.expect_err("no package").to_string().contains("expected a package to overwrite"));
    assert_eq!(names(folder.path()), ["checkpoint", "package"]);
}

#[test]
fn cancelling_leaves_nothing() {
    let (folder, copy) = changed("tiny-512");
    let mut calls = 0;
    let target = folder.path().join("package");
    let result =
        pocketmuse_export::export(&copy, &target, &Options::default(), calibrate, |progress| {
            calls += 1;
            assert!(progress.written_bytes < progress.total_bytes);
            if calls == 40 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    assert_eq!(result.map(|_| ()).expect_err("cancelled").kind(), ErrorKind::Cancelled);
    assert_eq!((calls, names(folder.path())), (40, vec!["checkpoint".to_owned()]));
}

/// Any changed byte in a config or a header is an error or a package, never a panic.
#[test]
fn no_byte_makes_it_panic() {
    let files = [
        "transformer/config.json",
        "text_encoder/config.json",
        "vqvae/config.json",
        TRANSFORMER,
        "tokenizer/tokenizer.json",
    ];
    let (folder, copy) = changed("tiny-512");
    let whole = files.map(|file| fs::read(copy.join(file)).expect("there"));
    let target = folder.path().join("package");
    let cases = (0..4000usize, any::<u8>(), 0..files.len());
    let mut runner = TestRunner::new(ProptestConfig::with_cases(48));
    let result = runner.run(&cases, |(at, byte, file)| {
        let mut bytes = whole[file].clone();
        let at = at % bytes.len();
        bytes[at] = byte;
        replace(&copy.join(files[file]), &bytes);
        if export(&copy, &target).is_ok() {
            fs::remove_dir_all(&target).expect("removed");
        }
        replace(&copy.join(files[file]), &whole[file]);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
