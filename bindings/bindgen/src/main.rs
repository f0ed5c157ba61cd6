//! Writes the generated Kotlin and Swift of a library, with the uniffi that the library is built
//! with: `uniffi-bindgen LIBRARY FOLDER`.

use std::{env, error, path::Path};

use uniffi::{GenerateOptions, TargetLanguage};

fn main() -> Result<(), Box<dyn error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [library, folder] = &arguments[..] else {
        return Err("usage: uniffi-bindgen LIBRARY FOLDER".into());
    };
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../mobile/uniffi.toml");
    for (name, language) in [("kotlin", TargetLanguage::Kotlin), ("swift", TargetLanguage::Swift)] {
        let out = Path::new(folder).join(name);
        uniffi::generate(GenerateOptions {
            languages: vec![language],
            source: library.as_str().into(),
            out_dir: out.to_str().ok_or("expected a folder whose name is text")?.into(),
            config_override: Some(config.into()),
            ..GenerateOptions::default()
        })?;
    }
    Ok(())
}
