//===- Aqlm.cpp - Sums of learned codewords -------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// aqlm<KxB, group = G>: G weights in a row are the sum of K vectors, one from
// each of K tables of 2^B, times the scale of the row. The tables are learned
// for a weight and stored in its header:
//
//   [table][coordinate][entry] bytes, entries repeated up to 16;
//   the root of the mean square of a row at scale 1 (f32).
//
// An entry is an unsigned byte with bias 128 / K (rounded down), so that a sum
// is an unsigned byte too. The magnitudes of a vector sum to 258 at most: its
// product with int8 activations then fits 16 bits.
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "quench/Quantization/Codebook.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/MathExtras.h"
#include <cmath>

using namespace quench;

/// Sums that are kept from table to table when a code is chosen.
static constexpr int64_t kBeam = 16;
/// The most that a vector's magnitudes may sum to: 127 times this is an int16.
static constexpr int64_t kMostMagnitude = 258;
/// Vectors that a table is learned from, and those that choose its unit.
static constexpr int64_t kSamples = 32768, kUnitSamples = 2048;
/// Rounds of codes and least squares.
static constexpr int kRounds = 8;

/// Widths of the parts of B bits, widest first.
static llvm::SmallVector<unsigned, 4> widthsOf(unsigned bits) {
  llvm::SmallVector<unsigned, 4> widths;
  for (unsigned width : {8u, 4u, 2u, 1u})
    if (bits & width)
      widths.push_back(width);
  return widths;
}

namespace {

class AqlmFormat : public Format {
public:
  AqlmFormat(int64_t tables, unsigned bits, int64_t length)
      : tables(tables), bits(bits), length(length), half(128 / tables) {
    makeLayout();
  }

  std::string spec() const override {
    return formatSpec("aqlm",
                      {std::to_string(tables) + "x" + std::to_string(bits),
                       "group = " + std::to_string(length)});
  }
  int64_t group() const override { return 0; }
  int64_t codeLength() const override { return length; }
  unsigned codeBits() const override { return tables * bits; }
  int64_t tableBytes() const override {
    return tables * length * storedEntries() + 4;
  }
  const BlockLayout &layout() const override { return blockLayout; }
  bool isInteger() const override { return true; }
  int64_t bias() const override { return tables * half; }
  float unit() const override { return 1.0f / 32; }

  int64_t sumTables() const override {
    return bits == 8 && length % 4 == 0 ? tables : 0;
  }

  std::unique_ptr<Format> bind(llvm::ArrayRef<uint8_t> table) const override;
  std::vector<uint8_t> fitTable(const float *values, int64_t rows, int64_t cols,
                                const FitOptions &options) const override;
  const AdditiveCodebook *codebook() const override { return book.get(); }
  std::vector<uint8_t>
  storeCodebook(llvm::ArrayRef<float> vectors) const override {
    return store(vectors, spread);
  }
  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &options) const override;
  uint32_t nearest(const float *values, GroupParams params) const override;
  void decode(uint32_t code, GroupParams params, float *values) const override;
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool inPlace,
                  llvm::SmallVectorImpl<Plane> &planes) const override;

private:
  int64_t entries() const { return int64_t(1) << bits; }
  /// Shorter tables are repeated, so that high bits of an index do not matter.
  int64_t storedEntries() const { return std::max<int64_t>(16, entries()); }
  /// Codewords of a step: four for each field of a byte.
  int64_t stepWords() const { return 4 * (8 / widthsOf(bits).back()); }
  void makeLayout();
  void unpackCode(uint32_t code, uint32_t *codes) const {
    for (int64_t t = 0; t < tables; ++t)
      codes[t] = code >> (t * bits) & (entries() - 1);
  }
  std::vector<uint8_t> store(llvm::ArrayRef<float> vectors, float spread) const;

  int64_t tables;
  unsigned bits;
  int64_t length, half;
  BlockLayout blockLayout;
  /// Of a bound format: vectors in units of a lane, and what they code at scale
  /// 1.
  std::unique_ptr<AdditiveCodebook> book;
  float spread = 1;
};

} // namespace

void AqlmFormat::makeLayout() {
  llvm::SmallVector<unsigned, 4> widths = widthsOf(bits);
  StepLayout step;
  step.columns = stepWords() * length;
  // A line holds 16 rows of one codeword after the other: with the lines of a
  // pass interleaved in these pieces, the rows of a pass lie side by side.
  step.unit = kBlockRows;
  for (int64_t t = 0; t < tables; ++t) {
    unsigned shift = t * bits;
    for (unsigned width : widths) {
      std::string name = "code";
      if (width != codeBits())
        name += "[" + std::to_string(shift) + ":" +
                std::to_string(shift + width - 1) + "]";
      Component part{name, width, step.bytes, {}, shift};
      int64_t perByte = 8 / width, lines = stepWords() / (4 * perByte);
      part.digits.push_back({'r', kBlockRows, 1, 8});
      part.digits.push_back({'k', 4, length, 8 * kBlockRows});
      if (perByte > 1)
        part.digits.push_back({'k', perByte, 4 * length, width});
      if (lines > 1)
        part.digits.push_back({'k', lines, 4 * perByte * length, 512});
      step.components.push_back(std::move(part));
      step.bytes += 64 * lines;
      shift += width;
    }
  }
  // Plane (four, coordinate) takes that coordinate of four codewords.
  if (length > 1)
    for (int64_t four = 0; four < stepWords(); four += 4)
      for (int64_t j = 0; j < length; ++j)
        for (int64_t word = four; word < four + 4; ++word)
          step.xOrder.push_back(word * length + j);
  blockLayout = makeBlockLayout(step, 0, 0);
}

void AqlmFormat::decodeStep(RegisterBuilder &builder, int64_t offset, bool,
                            llvm::SmallVectorImpl<Plane> &planes) const {
  // Lane 16 * word + row to lane 4 * row + word.
  uint8_t order[64];
  for (unsigned lane = 0; lane < 64; ++lane)
    order[lane] = lane % 4 * 16 + lane / 4;
  llvm::SmallVector<unsigned, 4> widths = widthsOf(bits);
  int64_t fours = stepWords() / 4;
  unsigned count = storedEntries() < 64 ? storedEntries() : 64;

  llvm::SmallVector<Reg, 8> sums(fours * length);
  for (int64_t t = 0; t < tables; ++t) {
    // The codes of each four, put together of their parts.
    llvm::SmallVector<Reg, 8> codes(fours);
    unsigned shift = 0;
    for (unsigned width : widths) {
      int64_t perByte = 8 / width;
      for (int64_t four = 0; four < fours; four += perByte, offset += 64) {
        Reg line = builder.permute(builder.load(offset), order);
        for (int64_t i = 0; i < perByte; ++i) {
          Reg part =
              width == 8 ? line : builder.field(line, i * width, width, shift);
          Reg &code = codes[four + i];
          code = shift == 0 ? part : builder.bitOr(code, part);
        }
      }
      shift += width;
    }
    for (int64_t j = 0; j < length; ++j) {
      llvm::SmallVector<Reg, 4> table;
      int64_t at = (t * length + j) * storedEntries();
      for (int64_t part = 0; part < storedEntries(); part += 64)
        table.push_back(builder.loadTable(at + part, count));
      for (int64_t four = 0; four < fours; ++four) {
        Reg value = builder.lookup(table, codes[four]);
        Reg &sum = sums[four * length + j];
        sum = t == 0 ? value : builder.add(sum, value);
      }
    }
  }
  unsigned hi = tables * (2 * half - 1);
  for (auto [quad, sum] : llvm::enumerate(sums))
    planes.push_back({sum, unsigned(quad), 0, hi});
}

//===----------------------------------------------------------------------===//
// The table
//===----------------------------------------------------------------------===//

std::unique_ptr<Format> AqlmFormat::bind(llvm::ArrayRef<uint8_t> table) const {
  if (static_cast<int64_t>(table.size()) != tableBytes())
    return nullptr;
  auto bound = std::make_unique<AqlmFormat>(tables, bits, length);
  std::vector<float> vectors(tables * entries() * length);
  for (int64_t t = 0; t < tables; ++t)
    for (int64_t e = 0; e < entries(); ++e)
      for (int64_t j = 0; j < length; ++j)
        vectors[(t * entries() + e) * length + j] =
            int64_t(table[(t * length + j) * storedEntries() + e]) - half;
  bound->book = std::make_unique<AdditiveCodebook>(tables, entries(), length,
                                                   std::move(vectors));
  float stored = llvm::bit_cast<float>(
      llvm::support::endian::read32le(table.data() + table.size() - 4));
  bound->spread = stored > 0 && std::isfinite(stored) ? stored : 1.0f;
  return bound;
}

/// Vectors in lane units become bytes.
std::vector<uint8_t> AqlmFormat::store(llvm::ArrayRef<float> vectors,
                                       float spread) const {
  std::vector<uint8_t> table(tableBytes());
  llvm::SmallVector<int64_t, 32> vector(length);
  for (int64_t t = 0; t < tables; ++t)
    for (int64_t e = 0; e < entries(); ++e) {
      int64_t magnitude = 0;
      for (int64_t j = 0; j < length; ++j) {
        float value = vectors[(t * entries() + e) * length + j];
        vector[j] = std::lrint(std::clamp<float>(value, -half, half - 1));
        magnitude += std::abs(vector[j]);
      }
      // What is too long loses where it is longest.
      for (; magnitude > kMostMagnitude; --magnitude) {
        auto longest = std::max_element(
            vector.begin(), vector.end(),
            [](int64_t a, int64_t b) { return std::abs(a) < std::abs(b); });
        *longest -= *longest > 0 ? 1 : -1;
      }
      for (int64_t j = 0; j < length; ++j)
        for (int64_t copy = e; copy < storedEntries(); copy += entries())
          table[(t * length + j) * storedEntries() + copy] = vector[j] + half;
    }
  llvm::support::endian::write32le(table.data() + table.size() - 4,
                                   llvm::bit_cast<uint32_t>(spread));
  return table;
}

/// The root of the mean square; infinities and NaN do not count.
static double rootMeanSquare(const float *values, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i)
    if (std::isfinite(values[i]))
      sum += double(values[i]) * values[i];
  return n ? std::sqrt(sum / n) : 0;
}

std::vector<uint8_t> AqlmFormat::fitTable(const float *values, int64_t rows,
                                          int64_t cols,
                                          const FitOptions &) const {
  // Vectors from everywhere, over the spread of their row.
  int64_t perRow = (cols + length - 1) / length, all = rows * perRow;
  int64_t stride = std::max<int64_t>(1, all / kSamples);
  // An even stride may meet the same columns again and again.
  if (stride > 1 && stride % 2 == 0)
    --stride;
  std::vector<double> inverse(rows);
  for (int64_t row = 0; row < rows; ++row) {
    double spread = rootMeanSquare(values + row * cols, cols);
    inverse[row] = spread > 0 ? 1 / spread : 0;
  }
  std::vector<float> points;
  for (int64_t i = 0; i < all; i += stride) {
    int64_t row = i / perRow, first = i % perRow * length;
    for (int64_t j = first; j < first + length; ++j) {
      double value = j < cols ? values[row * cols + j] * inverse[row] : 0;
      points.push_back(std::isfinite(value) ? value : 0);
    }
  }
  int64_t count = points.size() / length;

  // Each table begins with clusters of what the ones before it leave.
  std::vector<float> vectors, left = points;
  for (int64_t t = 0; t < tables; ++t) {
    KMeansOptions options;
    options.clusters = entries();
    options.seed = t + 1;
    std::vector<float> centers = kMeans(left, length, nullptr, options);
    NearestVector nearest(centers, length);
    std::vector<float> scratch(nearest.padded());
    for (int64_t i = 0; t + 1 < tables && i < count; ++i) {
      int64_t code = nearest.find(left.data() + i * length, scratch.data());
      for (int64_t j = 0; j < length; ++j)
        left[i * length + j] -= centers[code * length + j];
    }
    vectors.insert(vectors.end(), centers.begin(), centers.end());
  }

  // Codes and vectors in turn.
  std::vector<uint32_t> codes(count * tables);
  std::vector<float> errors(points.size());
  llvm::SmallVector<float, 32> sum(length);
  auto encode = [&](const AdditiveCodebook &book, int64_t step, float unit) {
    double error = 0;
    llvm::SmallVector<float, 32> point(length);
    for (int64_t i = 0; i < count; i += step) {
      for (int64_t j = 0; j < length; ++j)
        point[j] = points[i * length + j] * unit;
      book.find(point.data(), kBeam, codes.data() + i * tables);
      book.sum(codes.data() + i * tables, sum.data());
      for (int64_t j = 0; j < length; ++j) {
        errors[i * length + j] = point[j] - sum[j];
        error += double(errors[i * length + j]) * errors[i * length + j];
      }
    }
    return error / (unit * unit);
  };
  double least = 0;
  for (int round = 0; tables > 1 && round < kRounds; ++round) {
    AdditiveCodebook book(tables, entries(), length, vectors);
    double error = encode(book, 1, 1.0f);
    if (round > 0 && !(error < 0.998 * least))
      break;
    least = error;
    CodebookFit fit{tables,       entries(), length, count,
                    codes.data(), nullptr,   nullptr};
    fit.improve(vectors, errors, 12);
  }

  // The unit: the longest vectors may be cut off where that serves the others.
  float longest = 1e-6f, sumOfMagnitudes = 1e-6f;
  for (size_t first = 0; first < vectors.size(); first += length) {
    float magnitude = 0;
    for (int64_t j = 0; j < length; ++j) {
      float value = std::fabs(vectors[first + j]);
      longest = std::max(longest, value);
      magnitude += value;
    }
    sumOfMagnitudes = std::max(sumOfMagnitudes, magnitude);
  }
  float plain =
      std::min((half - 0.5f) / longest, kMostMagnitude / sumOfMagnitudes);
  std::vector<uint8_t> best;
  double bestError = 0;
  for (float factor : {1.0f, 1.4f, 2.0f, 2.8f, 4.0f, 8.0f}) {
    std::vector<float> scaled = vectors;
    for (float &value : scaled)
      value *= plain * factor;
    std::vector<uint8_t> table = store(scaled, plain * factor * unit());
    std::unique_ptr<Format> bound = bind(table);
    double error =
        encode(*static_cast<AqlmFormat &>(*bound).book,
               std::max<int64_t>(1, count / kUnitSamples), plain * factor);
    if (best.empty() || error < bestError) {
      best = std::move(table);
      bestError = error;
    }
  }
  return best;
}

//===----------------------------------------------------------------------===//
// Codes
//===----------------------------------------------------------------------===//

GroupParams AqlmFormat::fit(const float *values, int64_t n,
                            const FitOptions &) const {
  GroupParams params;
  params.scale = scaleToHalf(rootMeanSquare(values, n) / spread);
  return params;
}

uint32_t AqlmFormat::nearest(const float *values, GroupParams params) const {
  float scale = halfToFloat(params.scale) * unit();
  if (scale == 0 || !book)
    return 0;
  llvm::SmallVector<float, 32> point(length);
  for (int64_t j = 0; j < length; ++j) {
    float value = values[j] / scale;
    // Far outside, the codeword depends on the direction only.
    value = value > -1e6f ? value : -1e6f;
    point[j] = value < 1e6f ? value : 1e6f;
  }
  uint32_t codes[32], code = 0;
  book->find(point.data(), kBeam, codes);
  for (int64_t t = 0; t < tables; ++t)
    code |= codes[t] << (t * bits);
  return code;
}

void AqlmFormat::decode(uint32_t code, GroupParams params,
                        float *values) const {
  uint32_t codes[32];
  unpackCode(code, codes);
  if (!book) {
    std::fill_n(values, length, 0.0f);
    return;
  }
  book->sum(codes, values);
  float scale = halfToFloat(params.scale);
  for (int64_t j = 0; j < length; ++j)
    values[j] = scale * (unit() * values[j]);
}

static FormatRegistration registration(
    "aqlm",
    "sums of vectors from learned tables: aqlm<KxB, group = G> takes one from "
    "each of K tables of 2^B for G weights",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      std::vector<std::string> names;
      for (int k = 1; k <= 4; ++k)
        for (int b = 1; b <= 8; ++b)
          names.push_back(std::to_string(k) + "x" + std::to_string(b));
      std::vector<llvm::StringRef> choices(names.begin(), names.end());
      FormatArgReader reader(args);
      std::string shape = reader.choice("tables x bits", choices);
      int64_t length = reader.option("group", 1, 32, 8);
      if (llvm::Error error = reader.finish())
        return std::move(error);
      return std::make_unique<AqlmFormat>(shape[0] - '0', shape[2] - '0',
                                          length);
    });

QUENCH_BUILTIN_FORMAT(Aqlm)
