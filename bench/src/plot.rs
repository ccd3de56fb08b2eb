//! A plot of latencies by percentile.

use std::fmt::{self, Write};

use crate::report::{Report, Row};

/// The highest percentile of the plot as a number of nines: 99.99 %.
const NINES: f64 = 4.0;

/// The lowest latency of the plot, as a power of ten in microseconds: 10 µs.
const LOWEST: f64 = 1.0;
/// The highest latency of the plot: 10 s.
const HIGHEST: f64 = 7.0;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 480.0;
const MARGIN: f64 = 60.0;
/// The x coordinate of the legend.
const LEGEND: f64 = MARGIN + WIDTH + 20.0;

/// Returns an SVG of the latencies of all rows, on two logarithmic scales.
pub(crate) fn svg(report: &Report) -> String {
    let mut text = String::new();
    draw(&mut text, report).expect("writing to a string does not fail");
    text
}

fn draw(svg: &mut String, report: &Report) -> fmt::Result {
    let (width, height) = (LEGEND + 200.0, HEIGHT + 2.0 * MARGIN);
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">"#
    )?;
    writeln!(svg, r#"<rect width="{width}" height="{height}" fill="white"/>"#)?;
    writeln!(
        svg,
        r#"<text x="{MARGIN}" y="24" font-size="16">Latency at a constant rate, from when each call was due</text>"#
    )?;
    for (nines, label) in [
        (0.0, "0 %"),
        (std::f64::consts::LOG10_2, "50 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
    ] {
        let x = x_coordinate(nines);
        writeln!(svg, r##"<path d="M{x:.1} {MARGIN}v{HEIGHT}" stroke="#ddd"/>"##)?;
        writeln!(svg, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#, MARGIN + HEIGHT + 18.0)?;
    }
    for (power, label) in
        [(1.0, "10 µs"), (2.0, "100 µs"), (3.0, "1 ms"), (4.0, "10 ms"), (5.0, "100 ms"), (6.0, "1 s"), (7.0, "10 s")]
    {
        let y = y_coordinate(power);
        writeln!(svg, r##"<path d="M{MARGIN} {y:.1}h{WIDTH}" stroke="#ddd"/>"##)?;
        writeln!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#, MARGIN - 6.0, y + 4.0)?;
    }
    let plotted = report.rows.iter().filter(|row| row.open.is_some());
    for (index, row) in (0_u32..).zip(plotted) {
        draw_curve(svg, index, row)?;
    }
    writeln!(svg, "</svg>")
}

fn draw_curve(svg: &mut String, index: u32, row: &Row) -> fmt::Result {
    let Some((rate, latencies)) = &row.open else { return Ok(()) };
    // The golden angle gives neighbouring curves different colours.
    let colour = format!("hsl({:.0},70%,40%)", f64::from(index) * 137.5 % 360.0);
    let dash = if row.engine == "PostgreSQL" { "6 3" } else { "none" };
    let points: Vec<String> = (0..=40_u32)
        .map(|step| {
            let nines = NINES * f64::from(step) / 40.0;
            let latency = latencies.value_at_quantile(1.0 - 10_f64.powf(-nines)).max(1);
            let latency = f64::from(u32::try_from(latency).unwrap_or(u32::MAX));
            format!("{:.1},{:.1}", x_coordinate(nines), y_coordinate(latency.log10()))
        })
        .collect();
    let points = points.join(" ");
    writeln!(
        svg,
        r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dash}"/>"#
    )?;
    let y = MARGIN + 18.0 * f64::from(index);
    writeln!(svg, r#"<path d="M{LEGEND} {y}h24" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>"#)?;
    writeln!(
        svg,
        r#"<text x="{}" y="{}">{} {} ({rate:.0}/s)</text>"#,
        LEGEND + 30.0,
        y + 4.0,
        row.scenario.name(),
        row.engine
    )
}

fn x_coordinate(nines: f64) -> f64 {
    MARGIN + WIDTH * nines / NINES
}

fn y_coordinate(power: f64) -> f64 {
    MARGIN + HEIGHT * (HIGHEST - power.clamp(LOWEST, HIGHEST)) / (HIGHEST - LOWEST)
}
