//! The texts of the files in `shaders/`. In WebAssembly, which pages download, they have no comments and no indentation.

/// The text of a file, by its path from this folder.
macro_rules! source_text {
    ($path:expr) => {{
        const WHOLE: &str = include_str!($path);
        if cfg!(target_arch = "wasm32") {
            const CODE: &str = {
                const BYTES: [u8; $crate::shader::source::code_bytes(WHOLE)] =
                    $crate::shader::source::code(WHOLE);
                match std::str::from_utf8(&BYTES) {
                    Ok(text) => text,
                    Err(_) => panic!("the shaders are ASCII"),
                }
            };
            CODE
        } else {
            WHOLE
        }
    }};
}

pub(super) use source_text;

/// The place behind the blanks that a line starts with, and the place of its comment or of its end, without blanks before it.
const fn code_of_line(text: &[u8], start: usize) -> (usize, usize, usize) {
    let mut from = start;
    while from < text.len() && text[from] == b' ' {
        from += 1;
    }
    let mut to = from;
    while to < text.len() && text[to] != b'\n' {
        if text[to] == b'/' && to + 1 < text.len() && text[to + 1] == b'/' {
            break;
        }
        to += 1;
    }
    let mut next = to;
    while next < text.len() && text[next] != b'\n' {
        next += 1;
    }
    while to > from && text[to - 1] == b' ' {
        to -= 1;
    }
    (from, to, next + 1)
}

/// Bytes of the code of a text.
pub(super) const fn code_bytes(text: &str) -> usize {
    let text = text.as_bytes();
    let (mut line, mut bytes) = (0, 0);
    while line < text.len() {
        let (from, to, next) = code_of_line(text, line);
        if from < to {
            bytes += to - from + 1;
        }
        line = next;
    }
    bytes
}

/// The code of a text: its lines without comments, indentation and empty lines.
pub(super) const fn code<const N: usize>(text: &str) -> [u8; N] {
    let text = text.as_bytes();
    let mut out = [b'\n'; N];
    let (mut line, mut at) = (0, 0);
    while line < text.len() {
        let (mut from, to, next) = code_of_line(text, line);
        if from < to {
            while from < to {
                out[at] = text[from];
                (at, from) = (at + 1, from + 1);
            }
            at += 1;
        }
        line = next;
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn code_has_no_comments() {
        const TEXT: &str =
            "// a: b\n\nfn f() -> u32 {  // [rows]\n    return 6u / 2u; //\n}\n#end\n    // x\n";
        const CODE: [u8; super::code_bytes(TEXT)] = super::code(TEXT);
        let code = "fn f() -> u32 {\nreturn 6u / 2u;\n}\n#end\n";
        assert_eq!(std::str::from_utf8(&CODE), Ok(code));
    }
}
