//! In which keys two versions of a recipe's table differ.

use serde::Serialize;
use serde_json::Value;

/// Most keys that are named.
const SHOWN: usize = 4;

/// The keys of the table `name` in which two versions differ, with both values: "`train.lr` was 0.1, now 0.2". Empty
/// where they are equal.
pub(crate) fn differences<T: Serialize>(
    name: &str,
    [was, is]: [&str; 2],
    before: &T,
    now: &T,
) -> String {
    let [before, now] = [before, now].map(|table| serde_json::to_value(table).unwrap_or_default());
    let mut found = Vec::new();
    compare(name, &before, &now, &mut found);
    let more = found.len().saturating_sub(SHOWN);
    let shown = found.iter().take(SHOWN);
    let shown = shown.map(|(key, before, now)| {
        let [before, now] = [before, now].map(|value| match value {
            Value::Null => "not set".to_owned(),
            value => value.to_string(),
        });
        format!("`{key}` {was} {before}, {is} {now}")
    });
    let mut text = shown.collect::<Vec<_>>().join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more differ"));
    }
    text
}

fn compare<'a>(
    key: &str,
    before: &'a Value,
    now: &'a Value,
    found: &mut Vec<(String, &'a Value, &'a Value)>,
) {
    match (before, now) {
        (Value::Object(old), Value::Object(new)) => {
            let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let of = |table: &'a serde_json::Map<String, Value>| {
                    table.get(name).unwrap_or(&Value::Null)
                };
                compare(&format!("{key}.{name}"), of(old), of(new), found);
            }
        }
        _ if before != now => found.push((key.to_owned(), before, now)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_keys_at_any_depth_with_both_values() {
        let before = json!({"lr": 0.1, "same": 1, "router": {"weight": 0.5}, "gone": [1]});
        let now = json!({"lr": 0.2, "same": 1, "router": {"weight": 0.6}});
        let words = ["was", "now"];
        assert_eq!(
            differences("train", words, &before, &now),
            "`train.gone` was [1], now not set; `train.lr` was 0.1, now 0.2; \
             `train.router.weight` was 0.5, now 0.6"
        );
        assert_eq!(differences("train", words, &now, &now), "");
        let many = json!({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1});
        assert!(differences("m", words, &many, &json!({})).ends_with("; and 2 more differ"));
    }
}
