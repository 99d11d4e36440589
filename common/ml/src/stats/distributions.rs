//! Tails of distributions.

/// Chance of a number at least as far from 0 as `t`, of Student's t distribution with `df` degrees of freedom.
///
/// `I_x(df / 2, 1 / 2)` with `x = df / (df + t^2)`.
pub(crate) fn student_two_sided(t: f64, df: f64) -> f64 {
    if t.is_nan() || df.is_nan() {
        return f64::NAN;
    }
    let square = t * t;
    if square.is_infinite() {
        return 0.0;
    }
    // Both arguments are passed, since 1 - x would lose all digits of a small t.
    incomplete_beta(df / 2.0, 0.5, df / (df + square), square / (df + square))
}

/// The regularised incomplete beta function `I_x(a, b)`; `y` is `1 - x`.
///
/// Continued fraction of DLMF 8.17.22, evaluated by Lentz's method where it converges fast, else by `I_x(a, b) = 1 - I_y(b, a)`.
fn incomplete_beta(a: f64, b: f64, x: f64, y: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if y <= 0.0 {
        return 1.0;
    }
    // The logarithm of what is near 1 is taken from its distance to 1, which has all its digits.
    let ln = |value: f64, rest: f64| if rest < 0.5 { libm::log1p(-rest) } else { libm::log(value) };
    let front = libm::exp(a * ln(x, y) + b * ln(y, x) - log_beta(a, b));
    if x < (a + 1.0) / (a + b + 2.0) { front * fraction(a, b, x) / a } else { 1.0 - front * fraction(b, a, y) / b }
}

/// `ln B(a, b)`. For large `a` the difference of two large logarithms of gamma would lose digits: Stirling's series instead.
fn log_beta(a: f64, b: f64) -> f64 {
    let (small, large) = (a.min(b), a.max(b));
    if large < 20.0 {
        return libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b);
    }
    let sum = small + large;
    // ln G(large) - ln G(large + small), the corrections apart.
    let ratio = (large - 0.5) * -libm::log1p(small / large) - small * libm::log(sum) + small;
    libm::lgamma(small) + ratio + (stirling(large) - stirling(sum))
}

/// `ln G(z) - ((z - 1/2) ln z - z + ln(2 pi) / 2)` for `z` of 20 and more (DLMF 5.11.1).
fn stirling(z: f64) -> f64 {
    let w = 1.0 / (z * z);
    (1.0 / 12.0 - w * (1.0 / 360.0 - w * (1.0 / 1260.0 - w * (1.0 / 1680.0 - w / 1188.0)))) / z
}

/// Lentz's method; it needs about `sqrt(max(a, b))` steps, so the limit is far beyond what a stream counts to.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let safe = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / safe(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for m in 1..100_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut step = 1.0;
        for term in [even, odd] {
            d = 1.0 / safe(1.0 + term * d);
            c = safe(1.0 + term / c);
            step = c * d;
            result *= step;
        }
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_tail_is_known() {
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() <= 1e-13 * expected, "{found} {expected}");
        // One degree of freedom is Cauchy's distribution, two have a closed form too.
        for t in [1e-9, 0.1, 1.0, 3.0, 50.0] {
            close(student_two_sided(t, 1.0), 2.0 / std::f64::consts::PI * libm::atan(1.0 / t));
            let s = libm::sqrt(2.0 + t * t);
            close(student_two_sided(t, 2.0), 2.0 / (s * (s + t)));
        }
        assert_eq!(student_two_sided(0.0, 7.0), 1.0);
        assert_eq!(student_two_sided(f64::INFINITY, 7.0), 0.0);
        // With very many it is the normal distribution.
        let normal = libm::erfc(1.96 / std::f64::consts::SQRT_2);
        assert!((student_two_sided(1.96, 1e9) - normal).abs() < 1e-9);
    }
}
