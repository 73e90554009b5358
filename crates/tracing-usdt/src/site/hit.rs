//! The probe's instruction, and its notes.

use super::Site;
use super::argument::{And, Arguments, MAX_ARGUMENTS, NoArguments};
use super::note::{Names, Note};
use super::step::{Exit, Step};

/// Fires the exit of callsite `S`. It is a function of its own, because spans end anywhere.
#[inline(never)]
pub fn exit<S: Site>(span_id: u64, duration_ns: u64) {
    hit::<S, Exit, And<NoArguments, u64>>(&words(span_id, &NoArguments.and(duration_ns)));
}

/// The arguments of a probe.
pub type Words = [u64; MAX_ARGUMENTS];

/// The arguments of a hit. It is a function of its own, to keep its instructions out of the user's code.
#[cold]
#[inline(never)]
pub(crate) fn words<A: Arguments>(span_id: u64, fields: &A) -> Words {
    let mut words = [0; MAX_ARGUMENTS];
    words[0] = span_id;
    fields.write(&mut words);
    words
}

/// The instruction and its notes. `$register` has the address of the arguments; [`Note`] knows it too.
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"),
    target_pointer_width = "64",
    not(miri),
))]
macro_rules! probe {
    ($register:tt, $arguments:expr) => {
        std::arch::asm!(
            ".ifndef .Ltracing_usdt_count",
            ".set .Ltracing_usdt_count, 0",
            ".endif",
            ".set .Ltracing_usdt_count, .Ltracing_usdt_count + 1",
            ".altmacro",
            ".macro tracing_usdt_probe count",
            ".Ltracing_usdt_probe_\\count: nop",
            ".pushsection .note.stapsdt, \"o\", @note, .Ltracing_usdt_probe_\\count",
            ".balign 4",
            ".4byte 8, 24 + {len}, 3",
            ".asciz \"stapsdt\"",
            ".8byte .Ltracing_usdt_probe_\\count, _.stapsdt.base, tracing_usdt_1_{hash} + {semaphore}",
            ".if {words} > 0", ".8byte {w0}", ".endif",
            ".if {words} > 1", ".8byte {w1}", ".endif",
            ".if {words} > 2", ".8byte {w2}", ".endif",
            ".if {words} > 3", ".8byte {w3}", ".endif",
            ".if {words} > 4", ".8byte {w4}", ".endif",
            ".if {words} > 5", ".8byte {w5}", ".endif",
            ".if {words} > 6", ".8byte {w6}", ".endif",
            ".if {words} > 7", ".8byte {w7}", ".endif",
            ".if {words} > 8", ".8byte {w8}", ".endif",
            ".if {words} > 9", ".8byte {w9}", ".endif",
            ".if {words} > 10", ".8byte {w10}", ".endif",
            ".if {words} > 11", ".8byte {w11}", ".endif",
            ".if {words} > 12", ".8byte {w12}", ".endif",
            ".if {words} > 13", ".8byte {w13}", ".endif",
            ".if {words} > 14", ".8byte {w14}", ".endif",
            ".if {words} > 15", ".8byte {w15}", ".endif",
            ".if {words} > 16", ".8byte {w16}", ".endif",
            ".if {words} > 17", ".8byte {w17}", ".endif",
            ".if {words} > 18", ".8byte {w18}", ".endif",
            ".if {words} > 19", ".8byte {w19}", ".endif",
            ".if {words} > 20", ".8byte {w20}", ".endif",
            ".if {words} > 21", ".8byte {w21}", ".endif",
            ".if {words} > 22", ".8byte {w22}", ".endif",
            ".if {words} > 23", ".8byte {w23}", ".endif",
            ".if {words} > 24", ".8byte {w24}", ".endif",
            ".if {words} > 25", ".8byte {w25}", ".endif",
            ".if {words} > 26", ".8byte {w26}", ".endif",
            ".if {words} > 27", ".8byte {w27}", ".endif",
            ".if {words} > 28", ".8byte {w28}", ".endif",
            ".if {words} > 29", ".8byte {w29}", ".endif",
            ".if {words} > 30", ".8byte {w30}", ".endif",
            ".if {words} > 31", ".8byte {w31}", ".endif",
            ".if {words} > 32", ".8byte {w32}", ".endif",
            ".if {words} > 33", ".8byte {w33}", ".endif",
            ".if {words} > 34", ".8byte {w34}", ".endif",
            ".if {words} > 35", ".8byte {w35}", ".endif",
            ".if {words} > 36", ".8byte {w36}", ".endif",
            ".if {words} > 37", ".8byte {w37}", ".endif",
            ".if {words} > 38", ".8byte {w38}", ".endif",
            ".if {words} > 39", ".8byte {w39}", ".endif",
            ".if {half}", ".4byte {last}", ".endif",
            ".popsection",
            ".pushsection .note.tracing_usdt, \"o\", @note, .Ltracing_usdt_probe_\\count",
            ".balign 4",
            ".4byte 13, 32, 2",
            ".asciz \"tracing-usdt\"",
            ".balign 4",
            ".8byte .Ltracing_usdt_probe_\\count, {place}, {kinds_0}, {kinds_1}",
            ".popsection",
            ".endm",
            "tracing_usdt_probe %.Ltracing_usdt_count",
            ".purgem tracing_usdt_probe",
            ".noaltmacro",
            // By the difference between this address and the note's, tools see how far the executable was moved
            // after it was linked. perf takes the section's place in the file for that of the code, so the section has to be
            // beside the code (`x`). Other notes in the program don't say so, and the linker may take their byte.
            ".pushsection .stapsdt.base, \"axR\", @progbits",
            ".popsection",
            ".ifndef _.stapsdt.base",
            ".pushsection .stapsdt.base, \"axGR\", \"progbits\", .stapsdt.base, comdat",
            ".weak _.stapsdt.base",
            ".hidden _.stapsdt.base",
            "_.stapsdt.base: .space 1",
            ".size _.stapsdt.base, 1",
            ".popsection",
            ".endif",
            in($register) $arguments,
            hash = const Names::<S>::HASH,
            place = const S::PLACE,
            semaphore = const P::SEMAPHORE,
            len = const Note::<S, P, A>::LEN,
            words = const Note::<S, P, A>::FULL_WORDS,
            half = const Note::<S, P, A>::HALF,
            last = const Note::<S, P, A>::LAST,
            kinds_0 = const Note::<S, P, A>::KIND_WORDS[0],
            kinds_1 = const Note::<S, P, A>::KIND_WORDS[1],
            w0 = const Note::<S, P, A>::TEXT_WORDS[0],
            w1 = const Note::<S, P, A>::TEXT_WORDS[1],
            w2 = const Note::<S, P, A>::TEXT_WORDS[2],
            w3 = const Note::<S, P, A>::TEXT_WORDS[3],
            w4 = const Note::<S, P, A>::TEXT_WORDS[4],
            w5 = const Note::<S, P, A>::TEXT_WORDS[5],
            w6 = const Note::<S, P, A>::TEXT_WORDS[6],
            w7 = const Note::<S, P, A>::TEXT_WORDS[7],
            w8 = const Note::<S, P, A>::TEXT_WORDS[8],
            w9 = const Note::<S, P, A>::TEXT_WORDS[9],
            w10 = const Note::<S, P, A>::TEXT_WORDS[10],
            w11 = const Note::<S, P, A>::TEXT_WORDS[11],
            w12 = const Note::<S, P, A>::TEXT_WORDS[12],
            w13 = const Note::<S, P, A>::TEXT_WORDS[13],
            w14 = const Note::<S, P, A>::TEXT_WORDS[14],
            w15 = const Note::<S, P, A>::TEXT_WORDS[15],
            w16 = const Note::<S, P, A>::TEXT_WORDS[16],
            w17 = const Note::<S, P, A>::TEXT_WORDS[17],
            w18 = const Note::<S, P, A>::TEXT_WORDS[18],
            w19 = const Note::<S, P, A>::TEXT_WORDS[19],
            w20 = const Note::<S, P, A>::TEXT_WORDS[20],
            w21 = const Note::<S, P, A>::TEXT_WORDS[21],
            w22 = const Note::<S, P, A>::TEXT_WORDS[22],
            w23 = const Note::<S, P, A>::TEXT_WORDS[23],
            w24 = const Note::<S, P, A>::TEXT_WORDS[24],
            w25 = const Note::<S, P, A>::TEXT_WORDS[25],
            w26 = const Note::<S, P, A>::TEXT_WORDS[26],
            w27 = const Note::<S, P, A>::TEXT_WORDS[27],
            w28 = const Note::<S, P, A>::TEXT_WORDS[28],
            w29 = const Note::<S, P, A>::TEXT_WORDS[29],
            w30 = const Note::<S, P, A>::TEXT_WORDS[30],
            w31 = const Note::<S, P, A>::TEXT_WORDS[31],
            w32 = const Note::<S, P, A>::TEXT_WORDS[32],
            w33 = const Note::<S, P, A>::TEXT_WORDS[33],
            w34 = const Note::<S, P, A>::TEXT_WORDS[34],
            w35 = const Note::<S, P, A>::TEXT_WORDS[35],
            w36 = const Note::<S, P, A>::TEXT_WORDS[36],
            w37 = const Note::<S, P, A>::TEXT_WORDS[37],
            w38 = const Note::<S, P, A>::TEXT_WORDS[38],
            w39 = const Note::<S, P, A>::TEXT_WORDS[39],
            options(nostack, preserves_flags, readonly),
        )
    };
}

/// Fires a probe of callsite `S`.
///
/// The instruction is one `nop`, of one byte on x86-64: Linux 6.18 turns a `nop` of five bytes into a call, which
/// overwrites the red zone of the stack. There are two notes. `.note.stapsdt` is what all tools read, as
/// <https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation> describes it. `.note.tracing_usdt` adds the
/// types of the fields, which the first one does not tell apart.
///
/// Both notes are linked to the section of the code (`o`). If the linker drops code that nothing calls, it drops the
/// notes with it; without this, the notes would remain with addresses that are not in the program. The linked symbol
/// needs a name, and so a number that no other block of this object file has: the assembler counts.
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"),
    target_pointer_width = "64",
    not(miri),
))]
#[inline(always)]
#[allow(unsafe_code, named_asm_labels)]
pub fn hit<S: Site, P: Step, A: Arguments>(arguments: &Words) {
    // SAFETY: the only instruction is a `nop`. Whoever looks at the probe reads the arguments, which the register
    // points to.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        probe!("rax", std::ptr::from_ref(arguments));
        #[cfg(target_arch = "aarch64")]
        probe!("x0", std::ptr::from_ref(arguments));
        #[cfg(target_arch = "riscv64")]
        probe!("a0", std::ptr::from_ref(arguments));
    }
}

/// Nothing reads probes on this platform.
#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"),
    target_pointer_width = "64",
    not(miri),
)))]
#[inline(always)]
pub fn hit<S: Site, P: Step, A: Arguments>(arguments: &Words) {
    let _ = (arguments, Note::<S, P, A>::LEN, Names::<S>::HASH);
}
