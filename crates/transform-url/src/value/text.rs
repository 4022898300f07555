//! Free text with a limit: registered names, versions, file names.

use std::fmt::{self, Display};

use super::OpValue;
use crate::ValueError;

macro_rules! text {
    ($(#[$doc:meta])* $type:ident, $allowed:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(String);

        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl OpValue for $type {
            fn parse(text: &str) -> Result<Self, ValueError> {
                let check: fn(&str) -> bool = $check;
                if !text.is_empty() && check(text) { Ok(Self(text.to_owned())) } else { Err(ValueError) }
            }

            fn allowed() -> String {
                $allowed.to_owned()
            }
        }

        impl Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text! {
    /// The name of a preset or a registered image.
    Name, "a name of 1 to 63 letters a-z, digits, \"-\" or \"_\"",
    |text| text.len() <= 63 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}
text! {
    /// A version that marks the URL's answer as never changing.
    Version, "any text of 1 to 128 bytes", |text| text.len() <= 128
}
text! {
    /// The name a browser saves the answer under.
    FileName, "a file name of 1 to 200 bytes without \"/\", \"\\\" or a leading dot",
    |text| text.len() <= 200 && !text.starts_with('.') && !text.contains(['/', '\\'])
}
