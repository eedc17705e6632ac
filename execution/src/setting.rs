//! Checks of settings that operator and API server have in common. Each says in words what a value must be; the
//! command line adds the setting's name.

/// Text that says something.
///
/// # Errors
/// What it must be.
pub fn not_blank(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("it must not be blank".to_owned());
    }
    Ok(text.to_owned())
}

/// A number of money or time.
///
/// # Errors
/// What it must be.
pub fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("it must be a number that is not negative".to_owned()),
    }
}

/// Name of a namespace.
///
/// # Errors
/// What it must be.
pub fn namespace(text: &str) -> Result<String, String> {
    if text.len() > 63 || !is_label(text) {
        return Err("a namespace is 1 to 63 lower-case letters, digits and inner dashes".to_owned());
    }
    Ok(text.to_owned())
}

/// Name of a Secret, a Lease, a ServiceAccount, a RuntimeClass.
///
/// # Errors
/// What it must be.
pub fn object_name(text: &str) -> Result<String, String> {
    if text.len() > 253 || !text.split('.').all(is_label) {
        return Err(
            "a name is 1 to 253 lower-case letters and digits, with inner dashes and single dots".to_owned(),
        );
    }
    Ok(text.to_owned())
}

fn is_label(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inside) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        for good in ["a", "codeexec-executions", "0-0", &"a".repeat(63)] {
            assert!(namespace(good).is_ok() && object_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a b", "ä"] {
            assert!(namespace(bad).is_err() && object_name(bad).is_err(), "{bad}");
        }
        assert!(namespace("a.b").is_err() && namespace(&"a".repeat(64)).is_err());
        assert!(object_name("gvisor.example").is_ok());
        for bad in [".a", "a..b", "a.", &"a".repeat(254)] {
            assert!(object_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_price_is_a_number_and_text_says_something() {
        assert_eq!(not_negative("0.5"), Ok(0.5));
        for bad in ["", "-1", "inf", "NaN", "cheap"] {
            assert!(not_negative(bad).is_err(), "{bad}");
        }
        assert!(not_blank(" ").is_err() && not_blank("x").is_ok());
    }
}
