//! Medians and tables.

/// The value below which `part` of all lie; 0.5 is the median.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The median of what each value is to the one measured right beside it.
pub(crate) fn paired(values: &[f64], beside: &[f64]) -> f64 {
    median(&values.iter().zip(beside).map(|(value, other)| value / other).collect::<Vec<_>>())
}

/// A ratio, unless there was nothing to compare.
pub(crate) fn ratio(ratio: f64) -> String {
    figure(ratio, 2)
}

/// A number, unless nothing was measured.
pub(crate) fn figure(value: f64, decimals: usize) -> String {
    if value.is_finite() { format!("{value:.decimals$}") } else { "-".into() }
}

/// Median, and the spread of the middle four fifths.
pub(crate) fn spread(values: &[f64]) -> String {
    if values.is_empty() {
        return "-".into();
    }
    format!("{:.0} ({:.0}-{:.0})", median(values), quantile(values, 0.1), quantile(values, 0.9))
}

/// The first column to the left, all others to the right.
pub(crate) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = std::iter::once(head.iter().map(|cell| (*cell).to_owned()).collect()).chain(rows).collect();
    let width = |column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line += &if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") };
        }
        println!("{}", line.trim_end());
    }
}
