//! Enums whose variants have names, from one list.

use crate::{Error, ErrorKind};

/// Defines an enum of unit variants with their names in files and flags.
///
/// Besides the enum there are `ALL`, `name()`, `Display`, `FromStr` and serde's traits. A text that
/// is no name is a `BadRequest` at the place after `at`.
///
/// # Example
///
/// ```
/// pocketmuse_package::named_enum! {
///     /// A colour.
///     #[derive(Clone, Copy, Debug, PartialEq)]
///     pub enum Colour at "colour" {
///         /// As blood.
///         Red = "red",
///         /// As grass.
///         Green = "green",
///         /// As the sky.
///         Blue = "blue",
///     }
/// }
/// assert_eq!("green".parse::<Colour>().expect("a colour"), Colour::Green);
/// assert_eq!(Colour::ALL.map(Colour::name), ["red", "green", "blue"]);
/// let error = "grey".parse::<Colour>().expect_err("none");
/// assert_eq!(error.to_string(), "colour: expected red, green or blue, found \"grey\"");
/// ```
#[macro_export]
macro_rules! named_enum {
    (
        $(#[$meta:meta])*
        $visible:vis enum $Name:ident at $at:literal {
            $($(#[$variant_meta:meta])* $Variant:ident = $name:literal),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(serde::Serialize, serde::Deserialize)]
        $visible enum $Name {
            $($(#[$variant_meta])* #[serde(rename = $name)] $Variant,)+
        }

        impl $Name {
            /// All of them, in the order in which they are listed.
            $visible const ALL: [Self; [$($name),+].len()] = [$(Self::$Variant),+];

            /// The name in files, flags and messages.
            $visible fn name(self) -> &'static str {
                match self {
                    $(Self::$Variant => $name,)+
                }
            }
        }

        impl ::std::fmt::Display for $Name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl ::std::str::FromStr for $Name {
            type Err = $crate::Error;

            fn from_str(text: &str) -> ::std::result::Result<Self, $crate::Error> {
                Self::ALL
                    .into_iter()
                    .find(|one| one.name() == text)
                    .ok_or_else(|| $crate::unknown_name($at, &Self::ALL.map(Self::name), text))
            }
        }
    };
}

/// The error of a text that is none of `names`: `expected a, b or c, found "d"`.
pub fn unknown_name(at: &str, names: &[&str], found: &str) -> Error {
    let expected = match names {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    };
    Error::new(ErrorKind::BadRequest, at, format!("expected {expected}, found {found:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    named_enum! {
        /// A number.
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        enum Number at "number" {
            /// One.
            #[default]
            One = "one",
            /// Two.
            AnotherOne = "another one",
        }
    }

    #[test]
    fn one_list_names_them_everywhere() {
        for number in Number::ALL {
            assert_eq!(number.to_string().parse::<Number>().expect("its name"), number);
            assert_eq!(serde_json::to_value(number).expect("JSON"), json!(number.name()));
            assert_eq!(
                serde_json::from_value::<Number>(json!(number.name())).expect("JSON"),
                number
            );
        }
        assert_eq!(Number::default(), Number::One);
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        let error = "three".parse::<Number>().expect_err("unknown").to_string();
        assert_eq!(error, "number: expected one or another one, found \"three\"");
        assert_eq!(super::unknown_name("a", &["b"], "c").to_string(), "a: expected b, found \"c\"");
    }
}
