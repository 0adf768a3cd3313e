//! The time that a template asks for.

use std::fmt::Write as _;

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Local};
use minijinja::{Error, ErrorKind};

/// Longest format accepted, in bytes.
const MAX_FORMAT: usize = 256;

/// `strftime_now(format)`, for the time `now`.
pub(super) fn strftime(now: DateTime<Local>, format: &str) -> Result<String, Error> {
    let refuse = |reason: String| Err(Error::new(ErrorKind::InvalidOperation, reason));
    if format.len() > MAX_FORMAT {
        return refuse(format!("a date's format has at most {MAX_FORMAT} bytes"));
    }
    // Python's are microseconds.
    let format = format.replace("%f", "%6f");
    let items: Vec<Item<'_>> = StrftimeItems::new(&format).collect();
    let mut text = String::new();
    // Some formats, such as `%#z`, are noticed on writing only.
    if items.contains(&Item::Error)
        || write!(text, "{}", now.format_with_items(items.into_iter())).is_err()
    {
        return refuse(format!("{format:?} is no format of a date"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn dates_are_written_as_python_does() {
        let now = Local.with_ymd_and_hms(2026, 3, 7, 9, 5, 4).unwrap();
        let written = |format: &str| strftime(now, format).unwrap();
        assert_eq!(written("%d %b %Y"), "07 Mar 2026");
        assert_eq!(
            written("%A, %B %d, %Y %H:%M:%S"),
            "Saturday, March 07, 2026 09:05:04"
        );
        assert_eq!(written("%Y-%m-%d %f %j %%"), "2026-03-07 000000 066 %");
        assert!(
            strftime(now, "%#z").is_err()
                && strftime(now, "%Q").is_err()
                && strftime(now, &"x".repeat(999)).is_err()
        );
    }
}
