//! Draws a terminal as an SVG.
//!
//! Each run of text says at which column it is and how wide, because fonts differ in width, and many have no glyphs for
//! bars and lines. Glyphs other than ASCII are stretched, so that a bar has no gaps.

use std::fmt::Write;

use vt100::{Cell, Color, Parser, Screen};

/// The picture has its own dark background, so that it looks the same on light and dark pages.
const GROUND: u32 = 0x1c2129;
const TEXT: u32 = 0xd5dae2;
const EDGE: u32 = 0x4a5361;

/// Black, red, green, yellow, blue, magenta, cyan, white; the same again for bright.
const PALETTE: [u32; 16] = [
    0x1c2129, 0xf07178, 0x8fce73, 0xf0c674, 0x6cb0f5, 0xcf9bf0, 0x62d0cf, 0xd5dae2, //
    0x8b94a3, 0xff8b92, 0xa9e38d, 0xffdb8f, 0x8fc6ff, 0xe0b8ff, 0x86e6e5, 0xffffff,
];

/// Pixels of a cell. A glyph of a monospaced font of 14 pixels is 8.4 wide.
const COLUMN: f64 = 8.4;
const LINE: u32 = 18;
/// From the top of a line to where its letters stand.
const BASE: u32 = 14;
const PADDING: u32 = 10;

/// More columns than any line of text that is drawn has.
const MAX_COLUMNS: u16 = 250;

/// Draws coloured lines of text.
pub(super) fn draw_text(coloured: &str) -> String {
    let lines = coloured.lines().count().try_into().unwrap_or(u16::MAX);
    let mut parser = Parser::new(lines, MAX_COLUMNS, 0);
    let on_a_terminal = coloured.lines().collect::<Vec<_>>().join("\r\n");
    parser.process(on_a_terminal.as_bytes());
    draw(parser.screen())
}

/// Draws a screen, without what is blank at its right.
pub(super) fn draw(screen: &Screen) -> String {
    let (lines, columns) = screen.size();
    let cells = |line: u16| (0..columns).filter_map(move |column| Some((column, screen.cell(line, column)?)));
    let rows: Vec<Row> = (0..lines).map(|line| Row::of(cells(line))).collect();
    let used = rows.iter().map(Row::end).max().unwrap_or(0);
    let width = (f64::from(used) * COLUMN).ceil() as u32 + 2 * PADDING;
    let height = u32::from(lines) * LINE + 2 * PADDING;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"4.5\" fill=\"#{GROUND:06x}\" stroke=\"#{EDGE:06x}\"/>\n\
         <g font-family=\"SFMono-Regular, Consolas, Liberation Mono, Menlo, monospace\" font-size=\"14\" \
         fill=\"#{TEXT:06x}\">\n"
    );
    for (row, top) in rows.iter().zip((PADDING..).step_by(LINE as usize)) {
        row.draw(&mut svg, top);
    }
    svg + "</g>\n</svg>\n"
}

#[derive(Clone, Copy, PartialEq)]
struct Style {
    colour: u32,
    is_bold: bool,
    is_dim: bool,
}

/// Text in one style, with at most single blanks in it.
struct Run {
    from: u16,
    to: u16,
    style: Style,
    text: String,
}

/// Columns with a background of their own.
struct Ground {
    from: u16,
    to: u16,
    colour: u32,
}

#[derive(Default)]
struct Row {
    runs: Vec<Run>,
    grounds: Vec<Ground>,
}

impl Row {
    fn of<'a>(cells: impl Iterator<Item = (u16, &'a Cell)>) -> Self {
        let mut row = Self::default();
        for (from, cell) in cells.filter(|(_, cell)| !cell.is_wide_continuation()) {
            let to = from + if cell.is_wide() { 2 } else { 1 };
            let (mut colour, mut ground) = (rgb(cell.fgcolor(), TEXT), rgb(cell.bgcolor(), GROUND));
            if cell.inverse() {
                (colour, ground) = (ground, colour);
            }
            let style = Style { colour, is_bold: cell.bold(), is_dim: cell.dim() };
            match row.grounds.last_mut() {
                _ if ground == GROUND => {}
                Some(last) if last.to == from && last.colour == ground => last.to = to,
                _ => row.grounds.push(Ground { from, to, colour: ground }),
            }
            let text = cell.contents();
            match row.runs.last_mut() {
                _ if text.trim().is_empty() => {}
                Some(last) if last.style == style && from - last.to <= 1 => {
                    last.text.push_str(if from > last.to { " " } else { "" });
                    last.text.push_str(text);
                    last.to = to;
                }
                _ => row.runs.push(Run { from, to, style, text: text.to_owned() }),
            }
        }
        row
    }

    /// The column after the last that is not blank.
    fn end(&self) -> u16 {
        let text = self.runs.last().map_or(0, |run| run.to);
        self.grounds.last().map_or(text, |ground| ground.to.max(text))
    }

    fn draw(&self, svg: &mut String, top: u32) {
        // Writing to a String can't fail.
        for Ground { from, to, colour } in &self.grounds {
            let (x, width) = (x(*from), COLUMN * f64::from(to - from));
            let _ = writeln!(
                svg,
                r##"<rect x="{x:.1}" y="{top}" width="{width:.1}" height="{LINE}" fill="#{colour:06x}"/>"##
            );
        }
        if self.runs.is_empty() {
            return;
        }
        let _ = write!(svg, r#"<text y="{}">"#, top + BASE);
        for Run { from, to, style, text } in &self.runs {
            let (x, width) = (x(*from), COLUMN * f64::from(to - from));
            let _ = write!(svg, r#"<tspan x="{x:.1}" textLength="{width:.1}""#);
            if !text.is_ascii() {
                svg.push_str(r#" lengthAdjust="spacingAndGlyphs""#);
            }
            if style.colour != TEXT {
                let _ = write!(svg, r##" fill="#{:06x}""##, style.colour);
            }
            if style.is_bold {
                svg.push_str(r#" font-weight="bold""#);
            }
            if style.is_dim {
                // Browsers do not apply `opacity` to parts of a text.
                svg.push_str(r#" fill-opacity="0.65""#);
            }
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            let _ = write!(svg, ">{text}</tspan>");
        }
        svg.push_str("</text>\n");
    }
}

fn x(column: u16) -> f64 {
    f64::from(PADDING) + COLUMN * f64::from(column)
}

/// A colour of the terminal, whose own colour is `default`.
fn rgb(colour: Color, default: u32) -> u32 {
    match colour {
        Color::Rgb(red, green, blue) => u32::from_be_bytes([0, red, green, blue]),
        Color::Idx(index) => PALETTE.get(usize::from(index)).copied().unwrap_or(default),
        Color::Default => default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(svg: &str, element: &str) -> Vec<String> {
        svg.lines().filter(|line| line.starts_with(element)).map(str::to_owned).collect()
    }

    #[test]
    fn sets_position_and_width_of_each_run_of_text() {
        let svg = draw_text("a <b> \x1b[32m██\x1b[0m 50%   \x1b[2mdim\x1b[0m\n\n\x1b[1mend\x1b[0m");
        let expected = [
            "<text y=\"24\"><tspan x=\"10.0\" textLength=\"42.0\">a &lt;b&gt;</tspan>\
             <tspan x=\"60.4\" textLength=\"16.8\" lengthAdjust=\"spacingAndGlyphs\" fill=\"#8fce73\">██</tspan>\
             <tspan x=\"85.6\" textLength=\"25.2\">50%</tspan>\
             <tspan x=\"136.0\" textLength=\"25.2\" fill-opacity=\"0.65\">dim</tspan></text>",
            "<text y=\"60\"><tspan x=\"10.0\" textLength=\"25.2\" font-weight=\"bold\">end</tspan></text>",
        ];
        assert_eq!(lines(&svg, "<text"), expected);
    }

    #[test]
    fn what_is_reversed_has_a_background_that_also_covers_blanks() {
        let svg = draw_text("x\x1b[7m a  b \x1b[0m");
        let ground = r##"<rect x="18.4" y="10" width="50.4" height="18" fill="#d5dae2"/>"##;
        assert_eq!(lines(&svg, "<rect x"), [ground]);
        assert!(svg.contains(r##"<tspan x="26.8" textLength="8.4" fill="#1c2129">a</tspan>"##), "{svg}");
        assert!(svg.contains(r##"<tspan x="52.0" textLength="8.4" fill="#1c2129">b</tspan>"##), "{svg}");
    }

    #[test]
    fn a_wide_character_takes_two_columns() {
        let svg = draw_text("日本 x");
        assert!(svg.contains(r#"<tspan x="10.0" textLength="50.4""#), "{svg}");
    }

    #[test]
    fn the_picture_can_be_scaled_and_is_as_large_as_its_text() {
        let svg = draw_text("one line");
        assert!(svg.starts_with(r#"<svg viewBox="0 0 88 38" width="88" height="38" "#), "{svg}");
    }
}
