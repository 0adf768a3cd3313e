//! Numbers as people read them.

/// A number with `digits` significant digits, `–` if it is none.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e6).contains(&size) {
        return scientific(value, digits);
    }
    let magnitude = if size == 0.0 {
        0
    } else {
        size.log10().floor() as i32
    };
    let decimals = (digits as i32 - 1 - magnitude).max(0) as usize;
    if decimals == 0 {
        grouped(value.round() as i64)
    } else {
        format!("{value:.decimals$}")
    }
}

/// `1.5e-4`: up to `digits` digits, without zeros at the end.
fn scientific(value: f64, digits: usize) -> String {
    let text = format!("{value:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = match mantissa.contains('.') {
        true => mantissa.trim_end_matches('0').trim_end_matches('.'),
        false => mantissa,
    };
    format!("{mantissa}e{exponent}")
}

/// An integer with commas.
pub(crate) fn grouped(value: impl TryInto<i128>) -> String {
    let Ok(value) = value.try_into() else {
        return "–".into();
    };
    let digits = value.unsigned_abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A large number in three digits: `12.3M`.
pub(crate) fn compact(value: f64) -> String {
    for (unit, suffix) in [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")] {
        // 999.6k rounds to a million.
        if value >= unit * 0.9995 {
            let value = value / unit;
            let decimals = if value < 9.995 {
                2
            } else {
                usize::from(value < 99.95)
            };
            let text = format!("{value:.decimals$}");
            let text = if decimals > 0 {
                text.trim_end_matches('0').trim_end_matches('.')
            } else {
                &text
            };
            return format!("{text}{suffix}");
        }
    }
    format!("{value:.0}")
}

/// A duration in its largest sensible unit: `42 s`, `12.5 min`, `3.4 h`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".into();
    }
    let (value, unit) = match seconds {
        s if s < 120.0 => (s, "s"),
        s if s < 5400.0 => (s / 60.0, "min"),
        s => (s / 3600.0, "h"),
    };
    if value < 9.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// The label of an axis whose ticks lie `spacing` apart.
pub(crate) fn tick(value: f64, spacing: f64) -> String {
    // Sums of spacings miss zero by a rounding error.
    if value.abs() < spacing * 1e-6 {
        return "0".into();
    }
    if value.abs() >= 1e4 {
        return compact(value);
    }
    if value.abs() < 1e-2 && spacing < 2e-3 {
        return scientific(value, 3);
    }
    if value.abs() >= 1e3 && spacing >= 1.0 {
        return grouped(value.round() as i64);
    }
    let decimals = (-(spacing * 1.0001).log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_fit_the_size() {
        for (value, text) in [
            (2.34567, "2.346"),
            (31.4159, "31.42"),
            (1234.5, "1,235"),
            (123456.0, "123,456"),
            (0.123456, "0.1235"),
            (0.00123456, "0.001235"),
            (0.0006, "6e-4"),
            (1e-10, "1e-10"),
            (0.0, "0.000"),
            (f64::NAN, "–"),
            (-2.0, "-2.000"),
        ] {
            assert_eq!(significant(value, 4), text);
        }
    }

    #[test]
    fn large_numbers_are_grouped_or_shortened() {
        assert_eq!(grouped(1_234_567_u64), "1,234,567");
        assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(grouped(-1000_i64), "-1,000");
        assert_eq!(grouped(12_u64), "12");
        for (value, text) in [
            (950.0, "950"),
            (1000.0, "1k"),
            (12_345.0, "12.3k"),
            (120_000.0, "120k"),
            (999_900.0, "1M"),
            (1_500_000.0, "1.5M"),
            (2e9, "2B"),
        ] {
            assert_eq!(compact(value), text);
        }
    }

    #[test]
    fn durations_choose_their_unit() {
        for (seconds, text) in [
            (3.25, "3.2 s"),
            (90.0, "90 s"),
            (600.0, "10 min"),
            (12_240.0, "3.4 h"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn ticks_have_the_digits_of_their_spacing() {
        for (value, spacing, text) in [
            (0.3, 0.1, "0.3"),
            (2.0, 0.5, "2.0"),
            (20.0, 10.0, "20"),
            (2000.0, 500.0, "2,000"),
            (3e-4, 1e-4, "3e-4"),
            (2.5e-4, 5e-5, "2.5e-4"),
            (1e-17, 0.1, "0"),
            (40_000.0, 20_000.0, "40k"),
            (0.25, 0.05, "0.25"),
        ] {
            assert_eq!(tick(value, spacing), text);
        }
    }
}
