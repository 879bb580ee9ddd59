//! Comma-separated values (RFC 4180), as far as training and ablation write and read them.

/// One line without its end: fields with commas, quotes or line ends are quoted.
pub fn line<S: AsRef<str>>(fields: &[S]) -> String {
    let quoted = |field: &S| {
        let field = field.as_ref();
        match field.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", field.replace('"', "\"\"")),
            false => field.to_owned(),
        }
    };
    fields.iter().map(quoted).collect::<Vec<_>>().join(",")
}

/// All lines of a text. Of a last line that does not end, nothing is returned: a program that was
/// killed while it wrote left it. Returned beside the lines is how many bytes are whole.
pub fn parse(text: &str) -> (Vec<Vec<String>>, usize) {
    let (mut lines, mut whole) = (Vec::new(), 0);
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut rest = text.char_indices().peekable();
    while let Some((at, sign)) = rest.next() {
        match sign {
            '"' if is_quoted && rest.next_if(|(_, next)| *next == '"').is_some() => field.push('"'),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            '\r' if !is_quoted => {}
            '\n' if !is_quoted => {
                fields.push(std::mem::take(&mut field));
                lines.push(std::mem::take(&mut fields));
                whole = at + 1;
            }
            _ => field.push(sign),
        }
    }
    (lines, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let rows = [vec!["a", "b,c", "d \"e\""], vec!["", "two\nlines", "ä"]];
        let text = rows.iter().map(|row| line(row) + "\n").collect::<String>();
        let (lines, whole) = parse(&text);
        assert_eq!(lines, rows);
        assert_eq!(whole, text.len());
    }

    #[test]
    fn a_line_that_was_cut_is_left_out() {
        for cut in ["x", "x,y", "\"x", "\"x\ny,z"] {
            assert_eq!(parse(&format!("1,2\n{cut}")), (vec![vec!["1".into(), "2".into()]], 4));
        }
    }
}
