//! Names of Rust functions as written: the linker's names undone.
//!
//! ```text
//! _ZN  6engine  7kernels  4neon  7s8_tile  17h0123456789abcdef  E   ─►   engine::kernels::neon::s8_tile
//!      length and text of each part        hash, left out
//! ```
//!
//! ```
//! use vgg_edge_host::bench::demangle;
//! assert_eq!(demangle("_ZN4exec3run17h0123456789abcdefE"), "exec::run");
//! assert_eq!(demangle("memcpy"), "memcpy");
//! ```

/// What stands for a character that symbols cannot hold.
#[rustfmt::skip]
const ESCAPES: [(&str, &str); 9] = [
    ("$LT$", "<"), ("$GT$", ">"), ("$RF$", "&"), ("$BP$", "*"), ("$C$", ","), ("$LP$", "("), ("$RP$", ")"),
    ("$u20$", " "), ("..", "::"),
];
const BRACES: [(&str, &str); 2] = [("$u7b$", "{"), ("$u7d$", "}")];

/// The path of a Rust function, without its hash; any other name as it is.
pub fn demangle(symbol: &str) -> String {
    parts(symbol).map_or_else(|| symbol.to_owned(), |parts| parts.join("::"))
}

fn parts(symbol: &str) -> Option<Vec<String>> {
    let mut rest = symbol.strip_prefix("_ZN")?;
    let mut parts = Vec::new();
    while !rest.starts_with('E') {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let len: usize = rest[..digits].parse().ok()?;
        let part = rest.get(digits..digits.checked_add(len)?)?;
        rest = rest.get(digits + len..)?;
        parts.push(plain(part));
    }
    let is_hash =
        |part: &str| part.len() == 17 && part.starts_with('h') && u64::from_str_radix(&part[1..], 16).is_ok();
    if parts.last().is_some_and(|part| is_hash(part)) {
        parts.pop();
    }
    (!parts.is_empty()).then_some(parts)
}

fn plain(part: &str) -> String {
    let text = part.strip_prefix('_').filter(|rest| rest.starts_with('$')).unwrap_or(part);
    ESCAPES.iter().chain(&BRACES).fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_and_closures() {
        let method = "_ZN4exec39_$LT$impl$u20$engine..exec..Context$GT$4conv17h0123456789abcdefE";
        assert_eq!(demangle(method), "exec::<impl engine::exec::Context>::conv");
        assert_eq!(
            demangle("_ZN4conv28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE"),
            "conv::{{closure}}"
        );
    }

    #[test]
    fn what_is_no_name_stays() {
        for name in [
            "",
            "_ZN",
            "_ZNE",
            "_ZN9shortE",
            "_ZN99999999999999999999xE",
            "_ZN3\u{e4}\u{e4}E",
            "_RNvC3foo3bar",
            "?",
        ] {
            assert_eq!(demangle(name), name);
        }
    }
}
