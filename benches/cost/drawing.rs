//! Bar charts as SVG, one below the other, for light and dark pages.

pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) bars: Vec<Bar<'a>>,
}

pub(crate) struct Bar<'a> {
    pub(crate) label: &'a str,
    /// Ours stand out.
    pub(crate) ours: bool,
    pub(crate) value: f64,
    pub(crate) shown: String,
}

/// Pixels. The drawing is narrow, so that its text can still be read on a telephone.
const WIDTH: u32 = 480;
const MARGIN: u32 = 20;
const LABELS: u32 = 160;
const LONGEST_BAR: f64 = 210.0;
const ROW: u32 = 22;
const TITLE: u32 = 30;
const GAP: u32 = 12;

const STYLE: &str = r#"<style>
svg { --ground: #ffffff; --edge: #d0d7de; --ours: #1f6feb; --other: #a8b3bf; --text: #1f2328; --soft: #57606a; }
@media (prefers-color-scheme: dark) {
svg { --ground: #0d1117; --edge: #3d444d; --ours: #4493f8; --other: #545d68; --text: #e6edf3; --soft: #9da7b3; }
}
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--soft); }
.title { font-size: 14px; font-weight: 600; fill: var(--text); }
.ours { fill: var(--text); font-weight: 600; }
.ground { fill: var(--ground); stroke: var(--edge); }
.bar { fill: var(--other); }
.our-bar { fill: var(--ours); }
</style>
"#;

pub(crate) fn draw(charts: &[Chart<'_>]) -> String {
    let mut body = String::new();
    let mut summary = String::new();
    let mut y = MARGIN;
    for (place, chart) in charts.iter().enumerate() {
        y += if place == 0 { 0 } else { GAP };
        text(&mut body, "title", MARGIN, y + 14, chart.title);
        summary += &format!("{}: ", chart.title);
        y += TITLE;
        let longest = chart.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        for bar in &chart.bars {
            row(&mut body, bar, y, longest);
            summary += &format!("{} {}, ", bar.label, bar.shown);
            y += ROW;
        }
        summary.truncate(summary.trim_end_matches(", ").len());
        summary += ". ";
    }
    let height = y + MARGIN - 6;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         aria-labelledby=\"title\">\n<title id=\"title\">{}</title>\n{STYLE}<rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{}\" \
         height=\"{}\" rx=\"8\"/>\n{body}</svg>\n",
        summary.trim_end(),
        WIDTH - 1,
        height - 1,
    )
}

fn row(out: &mut String, bar: &Bar<'_>, y: u32, longest: f64) {
    let (word, class) = if bar.ours { ("ours", "our-bar") } else { ("", "bar") };
    let width = (bar.value / longest * LONGEST_BAR).max(2.0);
    let start = MARGIN + LABELS;
    text(out, word, MARGIN, y + 12, bar.label);
    *out += &format!("<rect class=\"{class}\" x=\"{start}\" y=\"{y}\" width=\"{width:.1}\" height=\"15\" rx=\"2\"/>\n");
    text(out, word, start + width.ceil() as u32 + 6, y + 12, &bar.shown);
}

fn text(out: &mut String, class: &str, x: u32, y: u32, text: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    *out += &format!("<text{class} x=\"{x}\" y=\"{y}\">{text}</text>\n");
}
