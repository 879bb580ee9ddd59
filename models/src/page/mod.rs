//! Pages that people read: one self-contained HTML file each, light and dark, without scripts and without
//! anything from outside. The trainer's and the daemon's reports share this one frame, style and way of
//! plotting.

mod axis;
mod bars;
mod plot;

use std::{fmt::Write as _, path::Path};

pub use axis::{Axis, number};
pub use bars::{Bar, bars};
pub use plot::{Series, lines};

use crate::error::{Error, Result};

/// One style for all pages, light and dark. `--s0` and so on are the colours of series: Okabe and Ito's
/// palette, which colour-blind people can tell apart, in two brightnesses.
const STYLE: &str = "\
:root{color-scheme:light dark;--fg:#1b1f24;--bg:#fff;--soft:#57606a;--line:#d0d7de;--panel:#f6f8fa;\
--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#aa4499;--s4:#9a7400;--s5:#56606b;\
--good:#1a7f37;--bad:#cf222e}\
@media(prefers-color-scheme:dark){:root{--fg:#e6edf3;--bg:#0d1117;--soft:#9aa4af;--line:#30363d;\
--panel:#161b22;--s0:#56b4e9;--s1:#f0883e;--s2:#2fbf8f;--s3:#d68fd0;--s4:#e3b341;--s5:#a8b1bb;\
--good:#3fb950;--bad:#f85149}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);margin:2rem auto;\
max-width:72rem;padding:0 1rem}\
h1{font-size:1.7rem;margin-bottom:.25rem}h2{margin-top:2.5rem;font-size:1.3rem}\
.soft,figcaption{color:var(--soft)}figcaption{font-size:.9rem;max-width:42rem}\
figure{margin:1rem 0}.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(30rem,100%),1fr));\
gap:1.5rem 2rem;margin-top:1.5rem}.plots figure{margin:0}svg{width:100%;height:auto;display:block}\
svg text{fill:var(--fg);font:12px system-ui,sans-serif}svg .grid{stroke:var(--line)}\
svg .axis{stroke:var(--soft)}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
td,th{padding:.3rem .75rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\
td:first-child,th:first-child{text-align:left}th{font-weight:600;white-space:normal;vertical-align:bottom}\
.note{border-left:4px solid var(--s4);background:var(--panel);padding:.6rem 1rem;margin:1rem 0}\
.query{border-top:1px solid var(--line);padding:.75rem 0}.query p{margin:0 0 .5rem}\
.found{display:flex;flex-wrap:wrap;gap:.6rem}.found figure{margin:0;width:7.2rem}\
.found img{display:block;width:100%;height:11rem;object-fit:contain;background:var(--panel);\
box-sizing:border-box;border:4px solid var(--bad)}.found .right img{border-color:var(--good)}\
.found .apart{margin-left:1.5rem}\
code{background:var(--panel);padding:.1em .3em}";

/// A page in the making.
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// An empty page; `title` is plain text.
    pub fn new(title: &str) -> Self {
        let title = escape(title);
        Self { body: format!("<h1>{title}</h1>\n"), title }
    }

    /// Appends HTML.
    pub fn html(&mut self, html: &str) {
        self.body.push_str(html);
        self.body.push('\n');
    }

    /// Appends a heading; plain text.
    pub fn heading(&mut self, text: &str) {
        self.push(format_args!("<h2>{}</h2>\n", escape(text)));
    }

    /// Appends a paragraph; plain text.
    pub fn paragraph(&mut self, text: &str) {
        self.push(format_args!("<p>{}</p>\n", escape(text)));
    }

    /// Appends a paragraph that must not be overlooked; plain text.
    pub fn note(&mut self, text: &str) {
        self.push(format_args!("<p class=\"note\">{}</p>\n", escape(text)));
    }

    /// Appends plots side by side where there is room, each with the sentence below it.
    pub fn plots(&mut self, plots: &[(String, impl AsRef<str>)]) {
        self.body.push_str("<div class=\"plots\">\n");
        for (svg, caption) in plots {
            self.push(format_args!(
                "<figure>{svg}<figcaption>{}</figcaption></figure>\n",
                escape(caption.as_ref())
            ));
        }
        self.body.push_str("</div>\n");
    }

    /// Appends a table of plain texts. The first column is aligned to the left, the others to the right.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        self.body.push_str("<div class=\"wide\"><table><tr>");
        head.iter().for_each(|cell| self.push(format_args!("<th>{}</th>", escape(cell))));
        self.body.push_str("</tr>\n");
        for row in rows {
            self.body.push_str("<tr>");
            row.iter().for_each(|cell| self.push(format_args!("<td>{}</td>", escape(cell))));
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</table></div>\n");
    }

    /// The whole file.
    pub fn finish(&self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{}</title><style>{STYLE}</style></head><body>\n{}</body></html>\n",
            self.title, self.body
        )
    }

    /// Writes the file; what was there of this name is replaced only by a whole page.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let part = path.with_file_name(name);
        std::fs::write(&part, self.finish())
            .and_then(|()| std::fs::rename(&part, path))
            .map_err(Error::io(path))
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = self.body.write_fmt(text);
    }
}

/// Plain text as HTML, also within an attribute.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
