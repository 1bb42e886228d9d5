//! Instruction classes: an opcode form such as `smlal.4s` becomes what the cores price.
//!
//! ```text
//! form = MNEMONIC[.SUFFIX]    suffix: the arrangement (`4s`) or the register (`q`, `x`) of the first operand
//! ```
//!
//! ```
//! use vgg_edge_host::boards::{Class, classify};
//! assert_eq!(classify("smlal.4s"), (Class::Mull, true));
//! assert_eq!(classify("ldp.d"), (Class::VLoadPair, false));
//! ```

/// What the cores price alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// 8-bit dot products.
    Dot,
    /// 8-bit matrix products.
    Mmla,
    /// Loads of integer registers, and prefetches.
    Load,
    /// Loads of one vector register.
    VLoad,
    /// Loads of two integer registers.
    LoadPair,
    /// Loads of two vector registers.
    VLoadPair,
    /// Loads that deal elements out to two to four registers.
    VLoadDeinterleave,
    /// Stores of integer registers.
    Store,
    /// Stores of vector registers.
    VStore,
    /// Stores of two integer registers.
    StorePair,
    /// Stores of two vector registers.
    VStorePair,
    /// Vector multiplies with a result twice as wide.
    Mull,
    /// Vector multiplies of equal width.
    Mul,
    /// Saturating doubling multiplies that keep the high half.
    Mulh,
    /// Conversions between integers and floats, and rounding.
    Convert,
    /// Float multiplies and multiply-adds.
    Fma,
    /// Other float arithmetic.
    Fadd,
    /// Float divisions and square roots.
    Fdiv,
    /// Vector shifts, narrowing, widening and pairwise sums.
    Shift,
    /// Other vector integer arithmetic.
    Valu,
    /// Moves between and into vector registers.
    VMove,
    /// Integer multiplies and divisions.
    Imul,
    /// Branches.
    Branch,
    /// Other integer arithmetic.
    Int,
}

impl Class {
    /// Every class.
    #[rustfmt::skip]
    pub const ALL: [Class; 24] = [
        Class::Dot, Class::Mmla, Class::Load, Class::VLoad, Class::LoadPair, Class::VLoadPair, Class::VLoadDeinterleave,
        Class::Store, Class::VStore, Class::StorePair, Class::VStorePair, Class::Mull, Class::Mul, Class::Mulh,
        Class::Convert, Class::Fma, Class::Fadd, Class::Fdiv, Class::Shift, Class::Valu, Class::VMove, Class::Imul,
        Class::Branch, Class::Int,
    ];

    /// The class and the form (128 bits or not) behind a name as [`Class::form_name`] gives it.
    pub fn of_form_name(name: &str) -> Option<(Class, bool)> {
        let (name, wide) = name.strip_suffix(".q").map_or((name, false), |name| (name, true));
        Class::ALL.into_iter().find(|class| class.name() == name).map(|class| (class, wide))
    }

    /// Name in tables; `.q` behind that of 128-bit forms.
    pub fn form_name(self, wide: bool) -> String {
        format!("{}{}", self.name(), if wide { ".q" } else { "" })
    }

    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Class::Dot => "dot",
            Class::Mmla => "mmla",
            Class::Load => "load",
            Class::VLoad => "vload",
            Class::LoadPair => "load_pair",
            Class::VLoadPair => "vload_pair",
            Class::VLoadDeinterleave => "vload_deinterleave",
            Class::Store => "store",
            Class::VStore => "vstore",
            Class::StorePair => "store_pair",
            Class::VStorePair => "vstore_pair",
            Class::Mull => "mull",
            Class::Mul => "mul",
            Class::Mulh => "mulh",
            Class::Convert => "convert",
            Class::Fma => "fma",
            Class::Fadd => "fadd",
            Class::Fdiv => "fdiv",
            Class::Shift => "shift",
            Class::Valu => "valu",
            Class::VMove => "vmove",
            Class::Imul => "imul",
            Class::Branch => "branch",
            Class::Int => "int",
        }
    }
}

/// Shifts, by how their names start.
#[rustfmt::skip]
const SHIFTS: [&str; 29] = [
    "sadalp", "uadalp", "saddlp", "uaddlp", "sqxt", "uqxt", "sqshr", "sqrshr", "uqshr", "uqrshr", "xtn", "shrn",
    "rshrn", "srshl", "urshl", "srshr", "urshr", "sshr", "ushr", "shl", "sshl", "ushl", "ssra", "usra", "srsra",
    "sxtl", "uxtl", "sli", "sri",
];

/// The class of an opcode form, and whether it is a 128-bit form.
pub fn classify(form: &str) -> (Class, bool) {
    let (name, suffix) = form.split_once('.').unwrap_or((form, ""));
    let last = form.rsplit_once('.').map_or("", |(_, last)| last);
    let starts = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));

    let wide = matches!(suffix, "16b" | "8h" | "4s" | "2d" | "q") || last == "q";
    let quad = suffix == "q";
    let of_vector_register = matches!(suffix, "q" | "d" | "s" | "h" | "b");
    let pick = |vector: Class, integer: Class| if of_vector_register { vector } else { integer };
    let vector = matches!(last, "16b" | "8b" | "8h" | "4h" | "4s" | "2s" | "2d" | "1d" | "1q");
    let float = name.starts_with('f');

    match name {
        "sdot" | "udot" | "usdot" | "sudot" => (Class::Dot, wide),
        "smmla" | "ummla" | "usmmla" => (Class::Mmla, true),

        _ if starts(&["prfm"]) => (Class::Load, false),
        "ld1" | "ld1r" => (Class::VLoad, wide),
        "ld2" | "ld3" | "ld4" | "ld2r" | "ld3r" | "ld4r" => (Class::VLoadDeinterleave, wide),
        "st1" | "st2" | "st3" | "st4" => (Class::VStore, wide),
        _ if starts(&["ldp", "ldnp"]) => (pick(Class::VLoadPair, Class::LoadPair), quad),
        _ if starts(&["ldr", "ldur", "ldx", "lda"]) => (pick(Class::VLoad, Class::Load), quad),
        _ if starts(&["stp", "stnp"]) => (pick(Class::VStorePair, Class::StorePair), quad),
        _ if starts(&["st"]) => (pick(Class::VStore, Class::Store), quad),

        "scvtf" | "ucvtf" => (Class::Convert, wide),
        _ if starts(&["fcvt", "frint"]) => (Class::Convert, wide),
        "fmov" => (Class::VMove, wide),
        _ if starts(&["fmla", "fmls", "fmul", "fmadd", "fmsub", "fnm"]) => (Class::Fma, wide),
        _ if starts(&["fdiv", "fsqrt"]) => (Class::Fdiv, wide),
        _ if float => (Class::Fadd, wide),

        "dup" | "ins" | "mov" | "smov" | "umov" | "movi" | "mvni" if vector => (Class::VMove, wide),
        "smull" | "smull2" | "umull" | "umull2" | "smlal" | "smlal2" | "umlal" | "umlal2" | "smlsl"
        | "smlsl2"
            if vector =>
        {
            (Class::Mull, wide)
        }
        "mul" | "mla" | "mls" if vector => (Class::Mul, wide),
        _ if vector && starts(&["sqrdmulh", "sqdmul", "sqrdml", "sqdml"]) => (Class::Mulh, wide),
        _ if vector && starts(&SHIFTS) => (Class::Shift, wide),
        _ if vector => (Class::Valu, wide),

        "b" | "bl" | "br" | "blr" | "ret" | "cbz" | "cbnz" | "tbz" | "tbnz" => (Class::Branch, false),
        "madd" | "mul" | "smaddl" | "umaddl" | "msub" | "sdiv" | "udiv" | "umulh" => (Class::Imul, false),
        _ => (Class::Int, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_have_the_class_that_their_unit_suggests() {
        for (form, class, wide) in [
            ("sdot.elem.q", Class::Dot, true),
            ("sdot.4s", Class::Dot, true),
            ("sdot.2s", Class::Dot, false),
            ("smmla.q", Class::Mmla, true),
            ("prfm", Class::Load, false),
            ("ld1r.8b", Class::VLoad, false),
            ("ld1.16b", Class::VLoad, true),
            ("ld4.8h", Class::VLoadDeinterleave, true),
            ("st2.8b", Class::VStore, false),
            ("ldp.q", Class::VLoadPair, true),
            ("ldp.x", Class::LoadPair, false),
            ("ldrsb.w", Class::Load, false),
            ("ldaxr.w", Class::Load, false),
            ("ldur.d", Class::VLoad, false),
            ("stp", Class::StorePair, false),
            ("stp.q", Class::VStorePair, true),
            ("stlxr.w", Class::Store, false),
            ("stur.q", Class::VStore, true),
            ("scvtf.4s", Class::Convert, true),
            ("fcvtzs.w", Class::Convert, false),
            ("fmov.s", Class::VMove, false),
            ("mov.16b", Class::VMove, true),
            ("mov.x", Class::Int, false),
            ("smull.8h", Class::Mull, true),
            ("smull.x", Class::Int, false),
            ("mul.4s", Class::Mul, true),
            ("mul.x", Class::Imul, false),
            ("sqrdmulh.4s", Class::Mulh, true),
            ("fmla.8h", Class::Fma, true),
            ("fmadd.s", Class::Fma, false),
            ("fdiv.s", Class::Fdiv, false),
            ("fcmp.s", Class::Fadd, false),
            ("fadd.4s", Class::Fadd, true),
            ("sadalp.4s", Class::Shift, true),
            ("shl.4s", Class::Shift, true),
            ("saddw.8h", Class::Valu, true),
            ("b.ne", Class::Branch, false),
            ("tbnz.w", Class::Branch, false),
            ("unknown.0badf00d", Class::Int, false),
        ] {
            assert_eq!(classify(form), (class, wide), "{form}");
        }
    }
}
