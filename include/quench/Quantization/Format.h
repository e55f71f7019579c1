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
#include "quench/Quantization/Scales.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/Error.h"
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace quench {

class AdditiveCodebook;

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

/// Bits [shift, shift + bits) of a code.
struct CodeField {
  unsigned shift = 0, bits = 0;
};

/// A piece [offset, offset + length) of a block; the row blocks of a pass (or
/// of the passes that share their lines) are interleaved in units of `unit`
/// bytes within it.
struct Part {
  int64_t offset, length, unit;
};

/// Where the bits of a packed block of kBlockRows rows by `columns` columns
/// lie. makeBlockLayout (Layout.h) fills it from the layout of one step.
///
/// A block is a number of steps of `stepColumns` columns whose codes have the
/// same layout, and the scales and zero points of its groups. A group begins
/// at a multiple of groupColumns columns of the block (a multiple of 4);
/// columns from the format's group() to groupColumns are padding. Columns of a
/// block are thus padded columns; stagedOrder (Packing.h) leads back to the
/// columns of the weight.
struct BlockLayout {
  int64_t columns = 0; // columns (k) of a block
  int64_t bytes = 0;   // of one row block
  std::vector<Component> components;
  std::vector<Part> parts;
  /// Passes whose row blocks are interleaved: 1, or 2 where 64 rows of a
  /// codeword shall lie side by side; then all units are kBlockRows bytes.
  int64_t sharedPasses = 1;
  /// Position in the stored activations -> column of the block. Empty:
  /// identity. It never leaves a group or a step.
  std::vector<uint16_t> xOrder;

  /// Columns between the values of one codeword (1, or 4 for trits in bytes).
  int64_t codeStride = 1;
  /// Columns of one step, and where the codes of each step begin. Within a
  /// group the steps lie at equal distances.
  int64_t stepColumns = 0;
  llvm::SmallVector<int64_t, 4> stepOffsets;

  /// Columns of a group with its padding; 0: no group scales (a scale for each
  /// row, or none at all).
  int64_t groupColumns = 0;
  /// Bytes from the start of the block to the kBlockRows halves of the scale
  /// and to the kBlockRows bytes of the zero point of each group. Empty: none.
  llvm::SmallVector<int64_t, 4> scaleOffsets, zeroOffsets;

  int64_t groupsPerBlock() const { return scaleOffsets.size(); }
  int64_t quadsPerGroup() const { return groupColumns / 4; }
  int64_t quads() const { return columns / 4; }
  /// Row blocks that are interleaved.
  int64_t rowBlocks() const { return kPassBlocks * sharedPasses; }
  /// For group `group` (0 .. groupsPerBlock() - 1) of the block.
  int64_t scaleOffset(int64_t group) const { return scaleOffsets[group]; }
  int64_t zeroOffset(int64_t group) const { return zeroOffsets[group]; }
};

/// Scale and zero point of one group, as they are stored.
struct GroupParams {
  /// As Format::scaleKind() says: bits of an IEEE half, or a byte. 0 only for
  /// groups of zeros in formats without a level 0; a half is negative where a
  /// searched scale mirrors the levels.
  uint16_t scale = 0;
  /// Unsigned byte, or bits of a half (Format::hasFloatZero()); 0 where the
  /// format has none.
  uint16_t zero = 0;
};

/// How the range of a group is chosen when it is fitted.
/// What a search of the scale minimizes over a group: the sum of |w - w'|^2 or
/// |w - w'|^3. Squares have a long group clip its largest weights by many
/// steps, and that costs a model more than its squares say (docs/Quantizers.md,
/// rtn): ByLength takes cubes for rows and for groups of more than 64 integers.
/// (GPTQ's published search has 2.4 for the exponent.)
enum class SearchNorm { ByLength, Squares, Cubes };
constexpr int64_t kLongestOfSquares = 64;

struct FitOptions {
  /// Search the scale (and zero point) of the least error instead of taking the
  /// extremes of the group.
  bool search = false;
  /// The error that counts then. Formats that are no integers take squares.
  SearchNorm norm = SearchNorm::ByLength;
  /// How much errors of each column count: the diagonal of the second moments.
  /// Empty: equally. Tables are fitted with them.
  llvm::ArrayRef<double> columnWeights;
  /// Threads to use at most; results do not depend on it.
  int threads = 1;
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
  /// The zero points are halves, in steps of the codes; else unsigned bytes.
  virtual bool hasFloatZero() const { return false; }
  /// False for formats that hold the numbers themselves (f32, f16, bf16).
  virtual bool hasScale() const { return true; }
  /// How scales are stored; those of rows (group() == 0) are halves.
  virtual ScaleKind scaleKind() const { return ScaleKind::Half; }
  /// What the stored scale of a group is worth.
  float scaleOf(GroupParams params) const {
    return scaleToFloat(scaleKind(), params.scale);
  }
  /// Columns coded by one codeword (1, 5 for trits in a byte, 8 for E8P).
  virtual int64_t codeLength() const { return 1; }
  /// Bits of one codeword (at most 32).
  virtual unsigned codeBits() const = 0;
  /// The low bits of a code, those that are a weight's own. Bits above them are
  /// what the codes of a tile share (magnitudes of a row, a set of columns); a
  /// layout stores each of these once.
  virtual unsigned symbolBits() const { return codeBits(); }
  /// Stored bits of a rows x cols weight: codes, scales, zero points, tables,
  /// without padding. With codedField(): of a typical weight; storedBits
  /// (Tail.h) says what one really takes.
  virtual int64_t bits(int64_t rows, int64_t cols) const;
  /// The field of a code (at most 8 bits, the exponent of a float) that has no
  /// place in the blocks: it is stored behind them in as many bits as it needs
  /// (Tail.h), so that the length of a stream depends on its content. Such
  /// formats have codes of one column and a decode in floats
  /// (RegisterBuilder::joinExponents), which goes through each row in order.
  virtual CodeField codedField() const { return {}; }
  /// What bits() reckons for them: 2.6 bits each (normal numbers: 2.59).
  int64_t typicalFieldBits(int64_t rows, int64_t cols) const;

  /// Rows and columns whose codes depend on each other and are chosen and
  /// decoded together (16 x 16 for a trellis, whose codeLength() is 1). Such
  /// formats have group() == 0; a weight is padded to whole tiles.
  virtual int64_t tileRows() const { return 1; }
  virtual int64_t tileColumns() const { return codeLength(); }
  bool hasTiles() const { return tileRows() != 1; }
  /// Tiles so wide that feedback must go on inside: quantizers always call
  /// nearestTileIn, for a ragged tile with a metric that is 0 past its end.
  virtual bool codesInMetric() const { return false; }

  /// What is stored once for a weight, in front of its stream: one f32 scale
  /// that multiplies all values (formats see weights divided by it), and a
  /// table of so many bytes (a codebook).
  virtual bool hasTensorScale() const { return false; }
  virtual int64_t tableBytes() const { return 0; }
  /// The format with the table of a weight; all host functions of a format
  /// with tableBytes() != 0 need one. The default, for formats without tables,
  /// is null.
  virtual std::unique_ptr<Format> bind(llvm::ArrayRef<uint8_t> table) const;
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
  /// The storable scale nearest to a real one, of the same sign; what a group
  /// that has codes already may be given instead of the scale that was fitted.
  /// The default knows scaleKind(); kinds without sign take the magnitude.
  virtual uint16_t roundScale(float scale) const;
  /// The scale of the whole weight (hasTensorScale()) of n values.
  virtual float fitTensor(const float *values, int64_t n,
                          const FitOptions &options) const;
  /// The table (tableBytes() bytes) for a rows x cols weight, already divided
  /// by its tensor scale.
  virtual std::vector<uint8_t> fitTable(const float *values, int64_t rows,
                                        int64_t cols,
                                        const FitOptions &options) const;
  /// Of a bound format whose codewords are sums of learned vectors: the
  /// vectors, in units of unit(). The code of table t lies from bit t * b on,
  /// where a table has 2^b entries. Null: other formats.
  virtual const AdditiveCodebook *codebook() const;
  /// The table with other vectors, rounded to what can be stored.
  virtual std::vector<uint8_t>
  storeCodebook(llvm::ArrayRef<float> vectors) const;
  /// The codes, [tileRows()][tileColumns()], nearest to the values of a tile;
  /// the error of row r counts `weights[r]` times (null: equally). Params are
  /// those of the rows. Formats with tiles implement these two instead of
  /// nearest() and decode().
  virtual void nearestTile(const float *values, const GroupParams *params,
                           const float *weights, uint32_t *codes) const;
  /// nearestTile where an error vector e of a row costs weights[row] times
  /// e metric e^T ([tileColumns()][tileColumns()], positive definite): the best
  /// tile that is found in a longer time. The default leaves the metric out.
  virtual void nearestTileIn(const float *metric, const float *values,
                             const GroupParams *params, const float *weights,
                             uint32_t *codes) const;
  virtual void decodeTile(const uint32_t *codes, const GroupParams *params,
                          float *values) const;
  /// nearest() of `count` codewords that lie one after the other. The default
  /// calls nearest(); formats with a faster way override it.
  virtual void nearestAll(const float *values, int64_t count,
                          GroupParams params, uint32_t *codes) const;

  //--- Packed form
  //------------------------------------------------------------//

  /// The layout of a block: a whole number of groups, each padded to a whole
  /// number of steps or to a fraction of one.
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
  /// Decodes one step (BlockLayout::stepColumns columns) of one row block whose
  /// codes begin `offset` bytes after the start of the block. Quads count from
  /// the start of the step. With `inPlace`, fields may stay where they lie
  /// (Plane::shift > 0); otherwise every shift is 0. The default: no planes.
  virtual void decodeStep(RegisterBuilder &builder, int64_t offset,
                          bool inPlace,
                          llvm::SmallVectorImpl<Plane> &planes) const;
  /// Decodes one step into floats without scale, in units of unit():
  /// level(code) / unit() (the zero point, if any, is not yet subtracted), one
  /// FloatPlane for each position of the step. The default converts the planes.
  virtual void decodeFloatStep(RegisterBuilder &builder, int64_t offset,
                               llvm::SmallVectorImpl<FloatPlane> &planes) const;

  /// How many vectors of codeLength() integers (a multiple of 4) a codeword is
  /// the sum of; 0: it is none. Byte t of a code names the vector of table t,
  /// which lies in the weight's table as bytes [table][coordinate][256] that
  /// have bias() / sumTables() too much; its product with int8 activations fits
  /// 16 bits. The row blocks of two passes are interleaved by kBlockRows bytes,
  /// so that the bytes of 64 rows lie side by side. A gemv may then look up
  /// products that it has made once instead of vectors.
  virtual int64_t sumTables() const { return 0; }

  /// All steps of one block of one row block, in order; quads count from the
  /// start of the block. Plane p belongs to group p.quad / quadsPerGroup().
  void decodePlanes(RegisterBuilder &builder, bool inPlace,
                    llvm::SmallVectorImpl<Plane> &planes) const;
  /// The same in floats; columns count from the start of the block.
  void decodeFloats(RegisterBuilder &builder,
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

/// Adds a format under a name; the first one of a name stays. Static objects of
/// this type register the built-in ones and those of a plugin.
struct FormatRegistration {
  FormatRegistration(llvm::StringRef name, llvm::StringRef help,
                     FormatFactory factory);
};

/// Parses "int<4, group = 32>" etc.; formats are interned and live as long as
/// the process. The error names what was found and what would be accepted.
llvm::Expected<const Format *> getFormat(llvm::StringRef spec);

/// Reads FormatArgs: takes arguments one by one, then finish() reports what is
/// left. The first error wins and is kept until finish().
class FormatArgReader {
public:
  explicit FormatArgReader(const FormatArgs &args);
  /// The first positional argument as a number in min..max.
  int64_t number(llvm::StringRef what, int64_t min, int64_t max);
  /// The first positional argument, which must be one of `choices`.
  std::string choice(llvm::StringRef what,
                     llvm::ArrayRef<llvm::StringRef> choices);
  /// The value of `key` in min..max, or `absent`.
  int64_t option(llvm::StringRef key, int64_t min, int64_t max, int64_t absent);
  /// The same for a number that need not be whole.
  double real(llvm::StringRef key, double min, double max, double absent);
  /// The value of `key`, one of `choices`; the flag `key` alone gives
  /// choices[0], and nothing "".
  std::string choiceOption(llvm::StringRef key,
                           llvm::ArrayRef<llvm::StringRef> choices);
  /// All positional arguments that are numbers, in order.
  std::vector<float> numbers(llvm::StringRef what);
  /// Whether the flag `key` is given.
  bool flag(llvm::StringRef key);
  /// Reports `message` (about the whole format) unless there is an error.
  void fail(const llvm::Twine &message);
  /// The first error, or one for arguments that nobody took.
  llvm::Error finish();

private:
  const FormatArgs &args;
  std::vector<bool> positionalTaken, namedTaken;
  std::vector<std::string> accepted;
  std::string error;
};

/// The canonical text "name<a, key = b, flag>" of its parts.
std::string formatSpec(llvm::StringRef name,
                       llvm::ArrayRef<std::string> arguments);

/// Names and one-line helps of all registered formats, sorted by name.
std::vector<std::pair<std::string, std::string>> listFormats();

} // namespace quench

#endif // QUENCH_QUANTIZATION_FORMAT_H
