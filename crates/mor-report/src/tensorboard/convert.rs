//! Metrics as TensorBoard's values.

use super::proto::{
    CLASS_TENSOR, Datum, Histogram, Metadata, Plugin, STRING, Shape, Tensor, Value,
};
use crate::metrics::{Sample, StepMetrics, ValidationMetrics};

/// The values of a step.
pub(super) fn step(line: &StepMetrics) -> Vec<Value> {
    let mut values: Vec<Value> = [
        ("train/loss", line.loss),
        ("train/bits_per_byte", line.bits_per_byte),
        ("train/learning_rate", line.learning_rate),
        ("train/gradient_norm", line.gradient_norm),
        ("train/tokens_per_second", line.tokens_per_second),
        ("train/tokens", line.tokens as f64),
        ("train/depth", line.depth),
    ]
    .map(|(tag, value)| scalar(tag, value))
    .into();
    values.extend(
        line.loss_scale
            .map(|value| scalar("train/loss_scale", value)),
    );
    for (tag, happened) in [("train/skipped", line.skipped), ("train/spike", line.spike)] {
        values.extend(happened.then(|| scalar(tag, 1.0)));
    }
    values.extend(histogram("train/depths", &line.depths));
    if let Some(router) = &line.router {
        values.push(scalar("router/loss", router.loss));
        values.push(scalar("router/perplexity", router.perplexity));
        values.extend(histogram("router/classes", &router.classes));
        values.extend(histogram("router/targets", &router.targets));
    }
    values
}

/// The values of a validation.
pub(super) fn validation(line: &ValidationMetrics) -> Vec<Value> {
    let mut values = vec![
        scalar("validation/loss", line.validation.loss),
        scalar("validation/perplexity", line.validation.perplexity),
        scalar("validation/bits_per_byte", line.validation.bits_per_byte),
    ];
    values.extend(histogram("validation/depths", &line.depths));
    let samples = line.samples.iter().zip(1..);
    values.extend(samples.map(|(sample, number)| text(format!("samples/{number}"), sample)));
    values
}

fn scalar(tag: &str, value: f64) -> Value {
    Value {
        tag: tag.into(),
        metadata: None,
        datum: Some(Datum::Scalar(value as f32)),
    }
}

/// Counts by depth or class, each in a bucket around its number.
fn histogram(tag: &str, counts: &[u64]) -> Option<Value> {
    let num = counts.iter().map(|n| *n as f64).sum();
    if num == 0.0 {
        return None;
    }
    let moment = |power: i32| {
        let weighted = counts.iter().enumerate();
        weighted
            .map(|(class, n)| (class as f64).powi(power) * *n as f64)
            .sum()
    };
    Some(Value {
        tag: tag.into(),
        metadata: None,
        datum: Some(Datum::Histogram(Histogram {
            min: -0.5,
            max: counts.len() as f64 - 0.5,
            num,
            sum: moment(1),
            sum_squares: moment(2),
            bucket_limit: (0..counts.len()).map(|class| class as f64 + 0.5).collect(),
            bucket: counts.iter().map(|n| *n as f64).collect(),
        })),
    })
}

/// A prompt and its answer. TensorBoard reads Markdown, so both are indented: code is shown as it is.
fn text(tag: String, sample: &Sample) -> Value {
    let mut markdown = String::new();
    for (heading, text) in [("Prompt", &sample.prompt), ("Answer", &sample.answer)] {
        markdown.push_str(&format!("**{heading}**\n\n"));
        // Any of Unicode's line ends would begin a line that is not indented.
        for line in text.split([
            '\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}',
        ]) {
            markdown.push_str(&format!("    {line}\n"));
        }
        markdown.push('\n');
    }
    Value {
        tag,
        metadata: Some(Metadata {
            plugin: Some(Plugin {
                name: "text".into(),
            }),
            data_class: CLASS_TENSOR,
        }),
        datum: Some(Datum::Tensor(Tensor {
            dtype: STRING,
            shape: Some(Shape { dim: Vec::new() }),
            strings: vec![markdown.into_bytes()],
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_put_each_class_in_the_middle_of_its_bucket() {
        let value = histogram("depths", &[0, 3, 1]).expect("counts");
        let Some(Datum::Histogram(histogram)) = value.datum else {
            panic!("not a histogram: {value:?}");
        };
        assert_eq!(histogram.bucket_limit, [0.5, 1.5, 2.5]);
        assert_eq!(histogram.bucket, [0.0, 3.0, 1.0]);
        assert_eq!((histogram.min, histogram.max), (-0.5, 2.5));
        assert_eq!(
            (histogram.num, histogram.sum, histogram.sum_squares),
            (4.0, 5.0, 7.0)
        );
        assert_eq!(super::histogram("depths", &[0, 0]), None);
    }

    #[test]
    fn answers_are_no_markup() {
        let value = text(
            "samples/1".into(),
            &Sample {
                prompt: "Hi".into(),
                answer: "# one\r<b>two</b>\u{2028}three".into(),
            },
        );
        let Some(Datum::Tensor(tensor)) = value.datum else {
            panic!("not a text: {value:?}");
        };
        let markdown = String::from_utf8(tensor.strings[0].clone()).expect("UTF-8");
        let allowed =
            |line: &str| line.is_empty() || line.starts_with("    ") || line.starts_with("**");
        assert!(markdown.lines().all(allowed), "{markdown}");
        assert!(markdown.contains("    <b>two</b>\n    three\n"));
    }
}
