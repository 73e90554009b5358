//! `cargo xtask picture`: draws the terminal in the README from a real run.
//!
//! ```text
//! checkout --probes--> spantap attach --coloured text--> one trace --anstyle-svg--> docs/images/attach.svg
//! ```

use std::fs;
use std::io::{Read, Write, stdout};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anstyle::{Color, RgbColor};
use anstyle_svg::{Palette, Term};
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::process::{Started, cargo_build};
use crate::setup;
use crate::workspace;

const PICTURE: &str = "docs/images/attach.svg";

/// The width of a README on a forge's page.
const COLUMNS: &str = "92";

/// Long enough for about fifteen traces. The least disturbed one is drawn.
const WATCH: Duration = Duration::from_secs(8);

/// Texts in each complete trace. The last is the thread that releases the lock for which the program waits.
const PARTS: [&str; 6] = ["checkout", "reserve", "price", "charge", "write_receipt", "stock-report"];

pub(crate) fn run() -> Result<()> {
    if !setup::is_root() {
        bail!("eBPF needs root; run: sudo -E env \"PATH=$PATH\" cargo xtask picture");
    }
    if let [missing, ..] = &setup::ensure(&setup::EBPF)[..] {
        bail!("{missing}");
    }
    let root = workspace()?;
    let mut built = cargo_build(
        &root,
        &["--workspace", "--bin", "checkout", "--bin", "spantap", "--features", "spantap/ebpf"],
    )?;
    let mut executable = |name| built.remove(name).with_context(|| format!("cargo built no {name}"));
    let (checkout, spantap) = (executable("checkout")?, executable("spantap")?);

    let output = watch(&spantap, &checkout)?;
    let trace = least_disturbed(&output).with_context(|| {
        format!("no trace of {} was complete and waited for the lock; try again", checkout.display())
    })?;
    let shown = format!("\x1b[2m$\x1b[0m sudo spantap attach --exe target/debug/checkout\n\n{trace}");
    let path = root.join(PICTURE);
    fs::create_dir_all(root.join("docs/images")).context("can't make docs/images")?;
    fs::write(&path, draw(&shown)).with_context(|| format!("can't write {}", path.display()))?;
    writeln!(stdout(), "{shown}\n\ndrawn to {}", path.display())?;
    Ok(())
}

/// The coloured output of spantap for a few seconds of the program.
fn watch(spantap: &Path, checkout: &Path) -> Result<String> {
    let mut attach = Command::new(spantap);
    attach
        .args(["attach", "--color", "always", "--exe"])
        .arg(checkout)
        .env("COLUMNS", COLUMNS)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut spantap = Started::spawn("spantap", &mut attach)?;
    let mut pipe = spantap.output()?.0;
    let text = thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).map(|_| text)
    });
    let mut command = Command::new(checkout);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let checkout = Started::spawn("checkout", &mut command)?;
    thread::sleep(WATCH);
    drop(checkout);
    spantap.signal(Signal::SIGTERM)?;
    let status = spantap.wait(Duration::from_secs(20))?;
    if !status.success() {
        bail!("spantap failed ({status}); see its message above");
    }
    let Ok(text) = text.join() else { bail!("the thread that reads from spantap panicked") };
    text.context("can't read the output of spantap")
}

/// The complete trace with the fewest lines: other programs of the machine add lines of their own, such as
/// preemptions.
fn least_disturbed(output: &str) -> Option<&str> {
    let traces = output.split("\n\n").map(str::trim_end);
    let complete = traces.filter(|trace| PARTS.iter().all(|part| trace.contains(part)));
    complete.min_by_key(|trace| trace.lines().count())
}

const fn rgb(hex: u32) -> RgbColor {
    let [_, r, g, b] = hex.to_be_bytes();
    RgbColor(r, g, b)
}

/// The picture has its own dark background, so that it looks the same on light and dark pages.
const GROUND: Color = Color::Rgb(rgb(0x1c2129));
const TEXT: Color = Color::Rgb(rgb(0xd5dae2));
const EDGE: &str = "#4a5361";

/// Black, red, green, yellow, blue, magenta, cyan, white; the same again for bright.
const PALETTE: Palette = Palette([
    rgb(0x1c2129),
    rgb(0xf07178),
    rgb(0x8fce73),
    rgb(0xf0c674),
    rgb(0x6cb0f5),
    rgb(0xcf9bf0),
    rgb(0x62d0cf),
    rgb(0xd5dae2),
    rgb(0x8b94a3),
    rgb(0xff8b92),
    rgb(0xa9e38d),
    rgb(0xffdb8f),
    rgb(0x8fc6ff),
    rgb(0xe0b8ff),
    rgb(0x86e6e5),
    rgb(0xffffff),
]);

/// anstyle-svg's distance of text from the edge, and its width of a column.
const PADDING: f64 = 10.0;
const COLUMN: f64 = 8.4;

fn draw(coloured: &str) -> String {
    let svg = Term::new().palette(PALETTE).fg_color(TEXT).bg_color(GROUND).render_svg(coloured);
    let ground = format!(r#"rx="4.5" stroke="{EDGE}""#);
    // Browsers do not apply `opacity` to parts of a text.
    let svg = svg.replace(".dimmed { opacity: 0.4; }", ".dimmed { fill-opacity: 0.65 }");
    let lines = svg.lines().map(|line| with_view_box(&on_columns(line)));
    lines.map(|line| line.replace(r#"rx="4.5""#, &ground) + "\n").collect()
}

/// Sets position and width of each run of text by its columns, because fonts differ in width, and many have no glyphs for
/// the bars. Glyphs are stretched, so that a bar has no gaps.
fn on_columns(line: &str) -> String {
    const RUN: &str = "<tspan";
    let mut runs = line.split(RUN);
    let mut placed = runs.next().unwrap_or_default().to_owned();
    let mut column = 0;
    for run in runs {
        placed.push_str(RUN);
        // The first run is the whole line. It has no text of its own and already has a position.
        let text = run.split_once('>').map_or("", |(_, rest)| rest.split('<').next().unwrap_or_default());
        let columns = columns(text);
        if columns > 0 {
            let (x, width) = (PADDING + COLUMN * column as f64, COLUMN * columns as f64);
            placed
                .push_str(&format!(r#" x="{x:.1}" textLength="{width:.1}" lengthAdjust="spacingAndGlyphs""#));
        }
        column += columns;
        placed.push_str(run);
    }
    placed
}

/// The number of columns of text in which `&`, `<` and `>` are escaped.
fn columns(text: &str) -> usize {
    let escapes = ["&amp;", "&lt;", "&gt;"];
    escapes.iter().fold(text.to_owned(), |text, escape| text.replace(escape, "x")).chars().count()
}

/// Adds a `viewBox`, with which a page can scale the picture down.
fn with_view_box(line: &str) -> String {
    let size = |name: &str| line.split_once(name)?.1.split_once("px")?.0.parse::<u32>().ok();
    match (line.starts_with("<svg "), size("width=\""), size("height=\"")) {
        (true, Some(width), Some(height)) => {
            line.replacen("<svg ", &format!("<svg viewBox=\"0 0 {width} {height}\" "), 1)
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_position_and_width_of_each_run_of_text() {
        let svg = draw("a <b> \x1b[32m██\x1b[0m 50%\n\x1b[1mend\x1b[0m");
        let runs: Vec<&str> = svg.lines().filter(|line| line.contains("textLength")).collect();
        assert_eq!(runs.len(), 2, "two lines were drawn as {svg}");
        let (first, second) = (runs[0], runs[1]);
        assert!(first.contains(r#"x="10.0" textLength="50.4""#), "{first}");
        assert!(
            first.contains(
                r#"x="60.4" textLength="16.8" lengthAdjust="spacingAndGlyphs" class="fg-green">██<"#
            ),
            "{first}"
        );
        assert!(first.contains(r#"x="77.2" textLength="33.6""#), "{first}");
        assert!(second.contains(r#"x="10.0" textLength="25.2""#), "{second}");
    }

    #[test]
    fn the_picture_can_be_scaled() {
        let svg = draw("one line");
        assert!(svg.starts_with(r#"<svg viewBox="0 0 740 38" width="740px" height="38px" "#), "{svg}");
    }

    #[test]
    fn draws_no_incomplete_trace() {
        let whole = "trace 1\ncheckout\nreserve\nprice\ncharge\nwrite_receipt\nwaker=stock-report\npreempted";
        let short = "trace 2\ncheckout\nreserve\nprice\ncharge\nwrite_receipt\nwaker=stock-report";
        let output = format!("trace 0\nreserve\n\n{whole}\n\n{short}\n\n");
        assert_eq!(least_disturbed(&output), Some(short));
        assert_eq!(least_disturbed("trace 0\nreserve\n\n"), None);
    }
}
