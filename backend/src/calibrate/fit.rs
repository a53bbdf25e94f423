//! Least squares: constants of formulas from measured times.

/// Constants `x ≥ 0` that minimise `Σ ((Σ features·x) / measured − 1)²`: errors count relative to the measurement.
///
/// With few constants every choice of those that are not zero can be tried: the best one without a negative is the
/// minimum, because the problem is convex.
pub(super) fn non_negative<const C: usize>(points: &[([f64; C], f64)]) -> [f64; C] {
    let mut best = ([0.0; C], f64::INFINITY);
    for chosen in 1u32..1 << C {
        let Some(x) = least_squares(points, chosen) else { continue };
        let error = relative_error(points, &x);
        if x.iter().all(|x| *x >= 0.0) && error < best.1 {
            best = (x, error);
        }
    }
    best.0
}

/// Sum of squared relative errors.
pub(super) fn relative_error<const C: usize>(points: &[([f64; C], f64)], x: &[f64; C]) -> f64 {
    points.iter().map(|(f, y)| (predict(f, x) / y - 1.0).powi(2)).sum()
}

/// The formula's value.
pub(super) fn predict<const C: usize>(features: &[f64; C], x: &[f64; C]) -> f64 {
    features.iter().zip(x).map(|(f, x)| f * x).sum()
}

/// The minimum over the chosen constants, the others zero; `None` when the points do not determine it.
fn least_squares<const C: usize>(points: &[([f64; C], f64)], chosen: u32) -> Option<[f64; C]> {
    let on = |i: usize| chosen >> i & 1 == 1;
    // Columns are scaled to length one, so that what counts as singular does not depend on units.
    let scale: [f64; C] =
        std::array::from_fn(|i| points.iter().map(|(f, y)| (f[i] / y).powi(2)).sum::<f64>().sqrt().max(1e-300));
    let mut matrix = [[0.0; C]; C];
    let mut right = [0.0; C];
    for i in 0..C {
        if !on(i) {
            matrix[i][i] = 1.0;
            continue;
        }
        for j in (0..C).filter(|j| on(*j)) {
            matrix[i][j] = points.iter().map(|(f, y)| f[i] / y / scale[i] * (f[j] / y / scale[j])).sum();
        }
        right[i] = points.iter().map(|(f, y)| f[i] / y / scale[i]).sum();
    }
    let x = solve(matrix, right)?;
    Some(std::array::from_fn(|i| if on(i) { x[i] / scale[i] } else { 0.0 }))
}

/// Gaussian elimination of a positive definite system.
fn solve<const C: usize>(mut matrix: [[f64; C]; C], mut right: [f64; C]) -> Option<[f64; C]> {
    for i in 0..C {
        if matrix[i][i] < 1e-9 {
            return None;
        }
        for row in i + 1..C {
            let factor = matrix[row][i] / matrix[i][i];
            let above = matrix[i];
            matrix[row].iter_mut().zip(above).for_each(|(m, a)| *m -= factor * a);
            right[row] -= factor * right[i];
        }
    }
    for i in (0..C).rev() {
        let known: f64 = (i + 1..C).map(|j| matrix[i][j] * right[j]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_of_exact_times_are_found_again() {
        let want = [0.1, 0.0, 3.0];
        let features = [[100.0, 7.0, 1.0], [10.0, 1.0, 5.0], [30.0, 2.0, 4.0], [1.0, 2.0, 0.5]];
        let points = features.map(|f| (f, predict(&f, &want)));
        for (got, want) in non_negative(&points).iter().zip(want) {
            assert!((got - want).abs() < 1e-9, "{got} for {want}");
        }
    }

    #[test]
    fn nothing_is_negative_and_equal_columns_do_no_harm() {
        // The best fit would take the second constant away from the first.
        let x = non_negative(&[([1.0, 1.0], 1.0), ([2.0, 4.0], 1.0)]);
        assert!(x[0] >= 0.0 && x[1] == 0.0 || x[0] == 0.0 && x[1] >= 0.0, "{x:?}");
        let x = non_negative(&[([1.0, 1.0], 2.0), ([2.0, 2.0], 4.0)]);
        assert!((x[0] + x[1] - 2.0).abs() < 1e-9, "{x:?}");
    }
}
