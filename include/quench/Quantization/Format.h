//===- Format.h - Low-bit formats -------------------------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A format says how a group of real weights becomes codes, a scale and perhaps
// a zero point, how codes become numbers again, where each code lies in a
// packed block, and how a register of codes is decoded. A new format is one
// class in one file that registers itself; nothing else switches over formats.
//
// A weight is a matrix of `rows` outputs by `cols` inputs, row major. The real
// value of a code is  scale * (level(code) - zero).
//
//===----------------------------------------------------------------------===//

#ifndef QUENCH_QUANTIZATION_FORMAT_H
#define QUENCH_QUANTIZATION_FORMAT_H

#include "quench/Quantization/Registers.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace quench {

/// One strided digit of a coordinate: (coordinate / stride) mod count moves the
/// component by `bits` bits in the block.
struct Digit {
  char axis; // 'r' (row) or 'k' (column)
  int64_t count;
  int64_t stride;
  int64_t bits;
};

/// A component of a packed block: bit(r, k) = 8 * offset + sum of its digits.
struct Component {
  std::string name; // "code", "scale", "zero", or a part of a code: "code[2:3]"
  unsigned bits;    // width of one entry
  int64_t offset;   // bytes from the start of the block
  llvm::SmallVector<Digit, 4> digits;
  /// Which bits of the code this component holds (a 3-bit code is a 2-bit and a
  /// 1-bit part).
  unsigned codeShift = 0;
};

/// A piece [offset, offset + length) of a block; the row blocks of a pass are
/// interleaved in units of `unit` bytes within it.
struct Part {
  int64_t offset, length, unit;
};

/// Where the bits of a packed block of kBlockRows rows by `columns` columns
/// lie.
struct BlockLayout {
  int64_t columns = 0; // columns (k) of a block
  int64_t bytes = 0;   // of one row block
  std::vector<Component> components;
  std::vector<Part> parts;
  /// Position in the stored activations -> column of the block. Empty:
  /// identity.
  std::vector<uint16_t> xOrder;
};

/// Scale and zero point of one group, as they are stored.
struct GroupParams {
  uint16_t scale = 0; // bits of an IEEE half
  uint8_t zero = 0;   // unsigned, 0 where the format has none
};

/// How the range of a group is chosen when it is fitted.
struct FitOptions {
  /// Search the scale (and zero point) that minimizes the squared error instead
  /// of taking the extremes of the group.
  bool search = false;
};

class Format {
public:
  virtual ~Format();

  /// The canonical text, e.g. "int<4, group = 32, zero>". Formats with equal
  /// text are equal.
  virtual std::string spec() const = 0;

  //--- Geometry
  //---------------------------------------------------------------//

  /// Columns that share a scale; 0: one scale for each row.
  virtual int64_t group() const = 0;
  virtual bool hasZeroPoint() const { return false; }
  /// False for formats that hold the numbers themselves (f32, f16, bf16).
  virtual bool hasScale() const { return true; }
  /// Columns coded by one codeword (1, 5 for trits in a byte, 8 for E8P).
  virtual int64_t codeLength() const { return 1; }
  /// Bits of one codeword (at most 32).
  virtual unsigned codeBits() const = 0;
  /// Stored bits of a rows x cols weight: codes, scales, zero points, without
  /// padding.
  virtual int64_t bits(int64_t rows, int64_t cols) const;
  /// Number of scales in a row of `cols` columns (a ragged last group counts).
  int64_t groupsPerRow(int64_t cols) const;

  //--- Host codec
  //-------------------------------------------------------------//

  /// Chooses scale and zero point for n values (one group; the scale is already
  /// rounded to f16). Never fails: all zeros and subnormals give a usable
  /// scale.
  virtual GroupParams fit(const float *values, int64_t n,
                          const FitOptions &options) const = 0;
  /// The code nearest to codeLength() values. Values past a ragged end are 0.
  virtual uint32_t nearest(const float *values, GroupParams params) const = 0;
  /// The codeLength() values of a code.
  virtual void decode(uint32_t code, GroupParams params,
                      float *values) const = 0;

  //--- Packed form
  //------------------------------------------------------------//

  /// The layout of a block. Groups are a multiple of the block or divide it;
  /// where `group` does neither, packing pads each group to whole blocks.
  virtual const BlockLayout &layout() const = 0;

  //--- Decode in registers
  //----------------------------------------------------//

  /// True if every level is an integer after adding bias(), in 0..255: the
  /// format can meet int8 activations in an integer dot product.
  virtual bool isInteger() const { return false; }
  /// What the unsigned lane of a plane has too much: w = lane - bias, in units
  /// of unit(). Formats with zero points have bias 0 (the zero point is
  /// subtracted instead).
  virtual int64_t bias() const { return 0; }
  /// The real value of one lane unit (0.25 for E8P); goes into the scale of a
  /// kernel.
  virtual float unit() const { return 1.0f; }
  /// Decodes one block of one row block into planes. With `inPlace`, fields may
  /// stay where they lie (Plane::shift > 0); otherwise every shift is 0.
  virtual void decodePlanes(RegisterBuilder &builder, bool inPlace,
                            llvm::SmallVectorImpl<Plane> &planes) const = 0;
  /// Decodes one block into floats without scale: level(code) (the zero point,
  /// if any, is not yet subtracted), one FloatPlane for each column position.
  /// The default converts the planes.
  virtual void decodeFloats(RegisterBuilder &builder,
                            llvm::SmallVectorImpl<FloatPlane> &planes) const;
};

/// Makes a format from its arguments: the positional and the key = value ones
/// of "name<a, key = b, flag>".
struct FormatArgs {
  std::string name;
  std::vector<std::string> positional;
  std::vector<std::pair<std::string, std::string>> named;
};
using FormatFactory =
    std::function<llvm::Expected<std::unique_ptr<Format>>(const FormatArgs &)>;

/// Adds a format under a name. Static objects of this type register the
/// built-in ones and those of a plugin.
struct FormatRegistration {
  FormatRegistration(llvm::StringRef name, llvm::StringRef help,
                     FormatFactory factory);
};

/// Parses "int<4, group = 32>" etc.; formats are interned and live as long as
/// the process. The error names what was found and what would be accepted.
llvm::Expected<const Format *> getFormat(llvm::StringRef spec);

/// Names and one-line helps of all registered formats, sorted by name.
std::vector<std::pair<std::string, std::string>> listFormats();

} // namespace quench

#endif // QUENCH_QUANTIZATION_FORMAT_H
