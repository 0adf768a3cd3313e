// Activations.

// The error function to 1.5e-7 (Abramowitz and Stegun 1964, formula 7.1.26).
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(x) * (1.0 - poly * exp(-x * x));
}

// The exact GELU (Hendrycks and Gimpel 2016).
fn gelu(x: f32) -> f32 {
    return 0.5 * x * (1.0 + erf(x * 0.70710678));
}

fn activate(x: f32) -> f32 {
#if GELU
    return gelu(x);
#else
#if TANH
    // Beyond this it is 1 to the last bit, and some drivers overflow.
    return tanh(clamp(x, -15.0, 15.0));
#else
    return x;
#endif
#endif
}
