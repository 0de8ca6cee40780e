//! Instructions, decoded by hand: 8 bytes each (16 for a wide load), and the kernel that first ran each form.
//!
//! Anything not positively known is refused: an instruction that a later compiler invents must be looked at once, not
//! waved through.

use super::Kernel;

/// One instruction as it stands in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Class, operation, source bit or size and mode.
    pub code: u8,
    /// Destination register.
    pub dst: u8,
    /// Source register, or a pseudo value that says what `imm` is.
    pub src: u8,
    /// Jump or memory offset; since CPU v4 also a modifier.
    pub off: i16,
    /// Immediate.
    pub imm: i32,
}

impl Insn {
    /// Decodes eight little-endian bytes.
    pub fn decode(b: [u8; 8]) -> Self {
        Self {
            code: b[0],
            dst: b[1] & 0x0f,
            src: b[1] >> 4,
            off: i16::from_le_bytes([b[2], b[3]]),
            imm: i32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        }
    }

    /// Is it the first half of a 16-byte instruction?
    pub fn is_wide(self) -> bool {
        self.code == LD_IMM64
    }

    /// Does it call a function of the same object?
    pub fn is_local_call(self) -> bool {
        self.code == CALL && self.src == PSEUDO_CALL
    }

    /// What a kernel must know to run it.
    pub fn needs(self) -> Needs {
        match self.code & 0x07 {
            LD => self.load_wide(),
            LDX => self.load(),
            ST => self.expect_mem("store of an immediate"),
            STX if self.mode() == MODE_ATOMIC => self.atomic(),
            STX => self.expect_mem("store"),
            ALU | ALU64 => self.alu(),
            JMP => self.jump(),
            _ => self.jump32(),
        }
    }

    fn mode(self) -> u8 {
        self.code & 0xe0
    }

    fn op(self) -> u8 {
        self.code & 0xf0
    }

    fn source_is_register(self) -> bool {
        self.code & 0x08 != 0
    }

    fn load_wide(self) -> Needs {
        if !self.is_wide() {
            return Needs::refused("legacy packet load", "socket and tc programs only");
        }
        match self.src {
            0 => Needs::feature("wide constant or map", Kernel(3, 18)),
            1 => Needs::feature("map reference", Kernel(3, 18)),
            2 => Needs::feature("map value address", Kernel(5, 2)),
            3 => Needs::feature("kernel variable address", Kernel(5, 10)),
            4 => Needs::feature("function address", Kernel(5, 13)),
            _ => Needs::refused("wide load", "unknown pseudo source"),
        }
    }

    fn load(self) -> Needs {
        if self.mode() == MODE_MEMSX {
            return Needs::feature("sign-extending load (CPU v4)", Kernel(6, 6));
        }
        self.expect_mem("load")
    }

    fn expect_mem(self, name: &'static str) -> Needs {
        if self.mode() == MODE_MEM {
            Needs::feature(name, Kernel(3, 18))
        } else {
            Needs::refused(name, "unknown addressing mode")
        }
    }

    fn atomic(self) -> Needs {
        let word = matches!(self.code & 0x18, SIZE_W | SIZE_DW);
        match self.imm {
            0x100 | 0x110 => Needs::feature("load-acquire or store-release", Kernel(6, 15)),
            _ if !word => Needs::refused("atomic", "8 or 16 bits wide"),
            0x00 => Needs::feature("atomic add without result", Kernel(3, 18)),
            0x01 => Needs::feature("atomic fetch-add", Kernel(5, 12)),
            0x40 | 0x50 | 0xa0 => Needs::feature("atomic or, and, xor", Kernel(5, 12)),
            0x41 | 0x51 | 0xa1 => Needs::feature("atomic fetch-or, -and, -xor", Kernel(5, 12)),
            0xe1 => Needs::feature("atomic exchange", Kernel(5, 12)),
            0xf1 => Needs::feature("atomic compare-and-exchange", Kernel(5, 12)),
            _ => Needs::refused("atomic", "unknown operation"),
        }
    }

    fn alu(self) -> Needs {
        let wide = self.code & 0x07 == ALU64;
        match (self.op(), self.off) {
            (OP_END, 0) if wide => Needs::feature("unconditional byte swap (CPU v4)", Kernel(6, 6)),
            (OP_DIV | OP_MOD, 1) => Needs::feature("signed division or remainder (CPU v4)", Kernel(6, 6)),
            (OP_MOV, 8 | 16 | 32) if self.source_is_register() => {
                Needs::feature("sign-extending move (CPU v4)", Kernel(6, 6))
            }
            (OP_MOV, 1) if wide && self.source_is_register() => Needs::feature("arena address cast", Kernel(6, 9)),
            (_, off) if off != 0 => Needs::refused("arithmetic", "unknown modifier in the offset"),
            (OP_ARSH, _) if !wide => Needs::feature("32-bit arithmetic shift right", Kernel(5, 0)),
            (0x00..=OP_END, _) if wide => Needs::feature("64-bit arithmetic", Kernel(3, 18)),
            (0x00..=OP_END, _) => Needs::feature("32-bit arithmetic, byte order", Kernel(3, 18)),
            _ => Needs::refused("arithmetic", "unknown operation"),
        }
    }

    fn jump(self) -> Needs {
        match self.op() {
            OP_CALL if self.source_is_register() => Needs::refused("indirect call", "no kernel takes it"),
            OP_CALL => match self.src {
                0 => Needs::Helper(self.imm.cast_unsigned()),
                PSEUDO_CALL => Needs::feature("function call", Kernel(4, 16)),
                // Programs that are no TCP congestion control may call kernel functions from 5.18 on.
                2 => Needs::feature("kernel function call", Kernel(5, 18)),
                _ => Needs::refused("call", "unknown pseudo source"),
            },
            0x00..=0x70 | OP_EXIT => Needs::feature("jump", Kernel(3, 18)),
            0xa0..=0xd0 => Needs::feature("jump if less", Kernel(4, 14)),
            OP_JCOND => Needs::feature("may_goto", Kernel(6, 9)),
            _ => Needs::refused("jump", "unknown operation"),
        }
    }

    fn jump32(self) -> Needs {
        match self.op() {
            0x00 => Needs::feature("long jump (CPU v4)", Kernel(6, 6)),
            0x10..=0x70 | 0xa0..=0xd0 => Needs::feature("32-bit jump", Kernel(5, 1)),
            _ => Needs::refused("32-bit jump", "unknown operation"),
        }
    }
}

/// What an instruction asks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A form of instruction that kernels know from this release on.
    Feature {
        /// What it is called in the test's table.
        name: &'static str,
        /// First kernel that runs it.
        since: Kernel,
    },
    /// A call of the helper with this id.
    Helper(u32),
    /// No kernel runs it in such a program, or none that this table knows.
    Refused {
        /// What it is called.
        name: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Needs {
    fn feature(name: &'static str, since: Kernel) -> Self {
        Self::Feature { name, since }
    }

    fn refused(name: &'static str, why: &'static str) -> Self {
        Self::Refused { name, why }
    }
}

const LD: u8 = 0;
const LDX: u8 = 1;
const ST: u8 = 2;
const STX: u8 = 3;
const ALU: u8 = 4;
const JMP: u8 = 5;
const ALU64: u8 = 7;
const LD_IMM64: u8 = 0x18;
const CALL: u8 = 0x85;
const PSEUDO_CALL: u8 = 1;
const MODE_MEM: u8 = 0x60;
const MODE_MEMSX: u8 = 0x80;
const MODE_ATOMIC: u8 = 0xc0;
const SIZE_W: u8 = 0x00;
const SIZE_DW: u8 = 0x18;
const OP_DIV: u8 = 0x30;
const OP_CALL: u8 = 0x80;
const OP_EXIT: u8 = 0x90;
const OP_MOD: u8 = 0x90;
const OP_MOV: u8 = 0xb0;
const OP_ARSH: u8 = 0xc0;
const OP_END: u8 = 0xd0;
const OP_JCOND: u8 = 0xe0;

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn insn(code: u8, src: u8, off: i16, imm: i32) -> Insn {
        Insn { code, dst: 1, src, off, imm }
    }

    #[test]
    fn decode_of_a_load_gives_its_fields() {
        let decoded = Insn::decode([0x79, 0x21, 0xf8, 0xff, 0x04, 0x03, 0x02, 0x01]);
        assert_eq!(decoded, Insn { code: 0x79, dst: 1, src: 2, off: -8, imm: 0x0102_0304 });
    }

    #[rstest]
    #[case::load(insn(0x79, 2, 8, 0), Kernel(3, 18))]
    #[case::store_immediate(insn(0x7a, 0, -8, 1), Kernel(3, 18))]
    #[case::xadd(insn(0xdb, 2, 0, 0), Kernel(3, 18))]
    #[case::negative_memory_offset(insn(0x7b, 1, -16, 0), Kernel(3, 18))]
    #[case::fetch_add(insn(0xdb, 2, 0, 1), Kernel(5, 12))]
    #[case::or_without_fetch(insn(0xc3, 2, 0, 0x40), Kernel(5, 12))]
    #[case::exchange(insn(0xdb, 2, 0, 0xe1), Kernel(5, 12))]
    #[case::compare_and_exchange(insn(0xc3, 2, 0, 0xf1), Kernel(5, 12))]
    #[case::byte_order(insn(0xdc, 0, 0, 16), Kernel(3, 18))]
    #[case::shift_right_32(insn(0xc4, 0, 0, 3), Kernel(5, 0))]
    #[case::jump_if_less(insn(0xad, 3, -8, 0), Kernel(4, 14))]
    #[case::jump_32(insn(0x16, 0, 1, 0), Kernel(5, 1))]
    #[case::local_call(insn(0x85, 1, 0, -1), Kernel(4, 16))]
    #[case::callback(insn(0x18, 4, 0, 0), Kernel(5, 13))]
    fn needs_of_forms_within_the_floor(#[case] insn: Insn, #[case] expected: Kernel) {
        assert!(matches!(insn.needs(), Needs::Feature { since, .. } if since == expected), "{:?}", insn.needs());
    }

    #[rstest]
    #[case::movsx(insn(0xbf, 2, 8, 0), Kernel(6, 6))]
    #[case::movsx_32(insn(0xbc, 2, 16, 0), Kernel(6, 6))]
    #[case::bswap(insn(0xd7, 0, 0, 32), Kernel(6, 6))]
    #[case::sdiv(insn(0x3f, 2, 1, 0), Kernel(6, 6))]
    #[case::smod(insn(0x94, 0, 1, 7), Kernel(6, 6))]
    #[case::gotol(insn(0x06, 0, 0, 5), Kernel(6, 6))]
    #[case::ldsx(insn(0x81, 2, 0, 0), Kernel(6, 6))]
    #[case::may_goto(insn(0xe5, 0, 3, 0), Kernel(6, 9))]
    #[case::arena_cast(insn(0xbf, 2, 1, 1), Kernel(6, 9))]
    #[case::load_acquire(insn(0xdb, 2, 0, 0x100), Kernel(6, 15))]
    #[case::kernel_function(insn(0x85, 2, 0, 1), Kernel(5, 18))]
    fn needs_of_forms_above_the_floor(#[case] insn: Insn, #[case] expected: Kernel) {
        assert!(expected > super::super::FLOOR);
        assert!(matches!(insn.needs(), Needs::Feature { since, .. } if since == expected), "{:?}", insn.needs());
    }

    #[rstest]
    #[case::packet_load(insn(0x30, 0, 0, 0))]
    #[case::indirect_call(insn(0x8d, 0, 0, 0))]
    #[case::byte_atomic(insn(0xd3, 2, 0, 1))]
    #[case::unknown_atomic(insn(0xdb, 2, 0, 0x77))]
    #[case::add_with_modifier(insn(0x0f, 2, 4, 0))]
    #[case::alu_operation_e(insn(0xe7, 0, 0, 0))]
    #[case::call_in_jmp32(insn(0x86, 0, 0, 1))]
    #[case::jump_operation_f(insn(0xf5, 0, 0, 1))]
    fn needs_of_unknown_forms_is_refused(#[case] insn: Insn) {
        assert!(matches!(insn.needs(), Needs::Refused { .. }), "{:?}", insn.needs());
    }

    #[test]
    fn needs_of_a_helper_call_is_its_id() {
        assert_eq!(insn(0x85, 0, 0, 181).needs(), Needs::Helper(181));
    }
}
