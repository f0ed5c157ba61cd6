//! What crosses the border has all that the runtime has: every field, and a comment that says what
//! it is when it is left out.

use std::{fs, path::Path};

use syn::{Attribute, Expr, Fields, Item, ItemStruct, Lit, Meta};

/// A struct of a source file.
fn structure(file: &str, name: &str) -> ItemStruct {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let items = syn::parse_file(&text).expect("Rust").items;
    let found = items.into_iter().find_map(|item| match item {
        Item::Struct(item) if item.ident == name => Some(item),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{file}: expected a struct {name}"))
}

/// The fields of a struct: name and attributes.
fn fields(structure: &ItemStruct) -> Vec<(String, &[Attribute])> {
    let Fields::Named(fields) = &structure.fields else { panic!("expected named fields") };
    let named = fields
        .named
        .iter()
        .map(|field| (field.ident.as_ref().expect("a name").to_string(), &field.attrs[..]));
    named.collect()
}

fn names(structure: &ItemStruct) -> Vec<String> {
    fields(structure).into_iter().map(|(name, _)| name).collect()
}

/// The text of a comment.
fn comment(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| {
        let Meta::NameValue(pair) = &attribute.meta else { return None };
        let Expr::Lit(literal) = &pair.value else { return None };
        let Lit::Str(text) = &literal.lit else { return None };
        pair.path.is_ident("doc").then(|| text.value())
    };
    attributes.iter().filter_map(line).collect()
}

#[test]
fn every_field_of_the_runtime_crosses() {
    let mobile = |file: &str, name: &str| structure(&format!("bindings/mobile/src/{file}"), name);
    let runtime = |file: &str, name: &str| structure(&format!("runtime/src/request/{file}"), name);
    for (here, there) in [
        (mobile("request.rs", "Request"), runtime("fields.rs", "Request")),
        (mobile("options.rs", "Options"), runtime("options.rs", "Options")),
        (mobile("options.rs", "Sharing"), runtime("options.rs", "Sharing")),
        (mobile("options.rs", "Providers"), runtime("provider.rs", "Providers")),
        (mobile("video.rs", "Video"), runtime("video.rs", "Video")),
    ] {
        assert_eq!(names(&here), names(&there), "{}", here.ident);
    }
    let here = mobile("capabilities.rs", "Capabilities");
    let there = structure("runtime/src/package/capabilities.rs", "Capabilities");
    assert_eq!(names(&here), names(&there));
    // What the command prints as JSON, by the same names.
    for (here, there) in [
        ("DoctorReport", "DoctorResult"),
        ("DoctorMachine", "DoctorMachine"),
        ("DoctorProvider", "DoctorProvider"),
        ("DoctorPackage", "DoctorPackage"),
        ("DoctorStage", "DoctorStage"),
    ] {
        let there = structure("bindings/cli/src/results.rs", there);
        assert_eq!(names(&mobile("doctor.rs", here)), names(&there), "{here}");
    }
    let here = mobile("import.rs", "ImportProgress");
    assert_eq!(
        names(&here),
        names(&structure("export/package/src/archive/progress.rs", "Progress"))
    );
    // The subset, and where what was checked is kept. An archive is made for a chip where it was
    // compiled for that.
    let mut there = names(&structure("export/package/src/subset.rs", "Subset"));
    there.retain(|name| name != "target");
    there.push("prepared".to_owned());
    assert_eq!(names(&mobile("import.rs", "ImportOptions")), there);
    assert_eq!(
        names(&structure("runtime/src/package/import.rs", "Import")),
        ["subset", "prepared"],
        "what an import has"
    );
    // What a source of the runtime is made of, by what makes it there: `Source::new` and opacity,
    // `with_mask`, `with_box`, `extended`, `with_paste`.
    let source = names(&mobile("source.rs", "Source"));
    assert_eq!(source, ["image", "mask", "area", "extend", "paste"]);
}

#[test]
fn every_field_that_may_be_left_out_says_what_it_is_then() {
    let mut seen = 0;
    for (file, name) in [
        ("request.rs", "Request"),
        ("options.rs", "Options"),
        ("options.rs", "Sharing"),
        ("source.rs", "Source"),
        ("source.rs", "Sides"),
        ("video.rs", "Video"),
        ("import.rs", "ImportOptions"),
    ] {
        for (field, attributes) in fields(&structure(&format!("bindings/mobile/src/{file}"), name))
        {
            let is_optional =
                attributes.iter().any(|attribute| attribute.path().is_ident("uniffi"));
            let comment = comment(attributes);
            assert!(!comment.is_empty(), "{name}.{field}: expected a comment");
            if is_optional {
                // The width says that it is as the height.
                let says = ["by default", "By default", "as for"];
                let holds = says.iter().any(|words| comment.contains(words));
                assert!(holds, "{name}.{field}: expected its default, found {comment}");
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "{seen}");
}
