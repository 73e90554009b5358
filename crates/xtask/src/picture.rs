//! `cargo xtask picture`: draws the pictures of the README and the manual from real runs.
//!
//! ```text
//! checkout --probes--> spantap attach ----------------------------------> attach.svg
//! shop --probes--> spantap record --> shop.spans --> spantap top, view --> top.svg, top-trace.svg, view.svg
//! four services --datagrams--> spantap record --------------------------> record.svg
//!                                  \--> calls.spans --> spantap graph --> graph.svg
//! ```
//!
//! `svg` draws what is on a terminal.

mod attach;
mod services;
mod shop;
mod svg;

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use roxmltree::Document;

use crate::process::{Folder, cargo_build};
use crate::setup;
use crate::workspace;
use services::Programs;

const FOLDER: &str = "docs/images";

/// The width of a README on a forge's page.
const COLUMNS: &str = "92";

/// Pages load all of them.
const MAX_BYTES: usize = 60_000;

struct Picture {
    file: &'static str,
    /// Texts that it has to show.
    says: &'static [&'static str],
}

#[rustfmt::skip] // a table
const PICTURES: [Picture; 6] = [
    Picture { file: "attach.svg", says: &["checkout", "reserve", "price", "charge", "write_receipt", "lock wait", "network wait", "wake"] },
    Picture { file: "top.svg", says: &["spantap top", "SPAN", "P95", "GET /report", "sqlite", "cpu"] },
    Picture { file: "top-trace.svg", says: &["GET /products/{id}", "exchange_rate", "sqlite", "on the critical path", "db.query.text"] },
    Picture { file: "view.svg", says: &["spantap view", "trace", "POST /orders", "place_order", "ERROR"] },
    Picture { file: "record.svg", says: &["spantap record", "spans recorded", "gateway", "0 dropped"] },
    Picture { file: "graph.svg", says: &["(outside)", "website", "app", "gateway", "health", "errors"] },
];

impl Picture {
    /// Checks that a page can show it, and that it shows what it should.
    fn check(&self, svg: &str) -> Result<()> {
        let Self { file, says } = self;
        let document = Document::parse(svg).with_context(|| format!("{file} is not XML"))?;
        let root = document.root_element();
        ensure!(root.has_tag_name(("http://www.w3.org/2000/svg", "svg")), "{file} is no SVG");
        ensure!(root.attribute("viewBox").is_some(), "{file} can't be scaled, as it has no viewBox");
        ensure!(svg.len() <= MAX_BYTES, "{file} has {} bytes, more than {MAX_BYTES}", svg.len());
        // A page shows nothing that a picture loads or runs.
        let foreign = |name: &str| ["image", "script", "foreignObject", "a", "use"].contains(&name);
        if let Some(node) = document.descendants().find(|node| foreign(node.tag_name().name())) {
            bail!("{file} has the element {}", node.tag_name().name());
        }
        let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
        for text in *says {
            ensure!(texts.iter().any(|shown| shown.contains(text)), "{file} does not show {text:?}");
        }
        Ok(())
    }
}

pub(crate) fn run() -> Result<()> {
    if !setup::is_root() {
        bail!("eBPF needs root; run: sudo -E env \"PATH=$PATH\" cargo xtask picture");
    }
    if let [missing, ..] = &setup::ensure(&setup::EBPF)[..] {
        bail!("{missing}");
    }
    let root = workspace()?;
    let mut arguments = vec!["--workspace", "--features", "spantap/ebpf"];
    let programs = ["checkout", "shop", "hyper_client", "axum_server", "tonic_server", "spantap"];
    arguments.extend(programs.iter().flat_map(|program| ["--bin", program]));
    let mut built = cargo_build(&root, &arguments)?;
    let mut executable = |name| built.remove(name).with_context(|| format!("cargo built no {name}"));
    let (checkout, shop) = (executable("checkout")?, executable("shop")?);
    let programs = Programs {
        spantap: executable("spantap")?,
        caller: executable("hyper_client")?,
        gateway: executable("axum_server")?,
        health: executable("tonic_server")?,
    };
    let spantap = &programs.spantap;

    let folder = Folder::new()?;
    let attach = attach::draw(spantap, &checkout)?;
    shop::record(spantap, &shop, folder.path())?;
    let (top, top_trace) = shop::draw_top(spantap, folder.path())?;
    let view = shop::draw_view(spantap, folder.path())?;
    let record = services::record(&programs, folder.path())?;
    let graph = services::draw_graph(spantap, folder.path())?;
    let drawn = [attach, top, top_trace, view, record, graph];

    // All or none, so that they are of one version.
    for (picture, svg) in PICTURES.iter().zip(&drawn) {
        picture.check(svg)?;
    }
    for (picture, svg) in PICTURES.iter().zip(&drawn) {
        write(&root.join(FOLDER).join(picture.file), svg)?;
    }
    Ok(())
}

fn write(path: &Path, svg: &str) -> Result<()> {
    fs::write(path, svg).with_context(|| format!("can't write {}", path.display()))?;
    writeln!(stdout(), "drawn to {}", path.display())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pictures_in_the_repository_show_what_they_should() -> Result<()> {
        let folder = workspace()?.join(FOLDER);
        for picture in &PICTURES {
            let svg = fs::read_to_string(folder.join(picture.file)).context(picture.file)?;
            picture.check(&svg)?;
        }
        Ok(())
    }

    #[test]
    fn the_manual_has_each_picture_with_a_description() -> Result<()> {
        let manual = fs::read_to_string(workspace()?.join("docs/manual.md"))?;
        for Picture { file, .. } in &PICTURES {
            let (before, _) = manual.split_once(&format!("](images/{file})")).unwrap_or_default();
            let description = before.rsplit_once("![").map_or("", |(_, description)| description);
            let is_described = (20..400).contains(&description.len());
            ensure!(is_described, "docs/manual.md has no description of {file}: {description:?}");
        }
        Ok(())
    }

    #[test]
    fn a_picture_that_shows_something_else_is_refused() {
        let picture = Picture { file: "x.svg", says: &["P95", "a < b"] };
        let check = |body: &str| {
            let svg = format!("<svg viewBox=\"0 0 1 1\" xmlns=\"http://www.w3.org/2000/svg\">{body}</svg>");
            picture.check(&svg).map_err(|why| why.to_string())
        };
        assert_eq!(check("<text>P95 P99</text><text>a &lt; b</text>"), Ok(()));
        assert_eq!(check("<text>P95</text>"), Err("x.svg does not show \"a < b\"".to_owned()));
        assert_eq!(check("<script>P95 a &lt; b</script>"), Err("x.svg has the element script".to_owned()));
        assert_eq!(check("<text>P95"), Err("x.svg is not XML".to_owned()));
    }
}
