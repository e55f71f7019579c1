//===- Trellis.cpp - Trellis-coded weights --------------------------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// trellis<k>: tiles of 16 x 16 weights, each a circular string of 256 k bits;
// TrellisCode.h says what a weight is worth. The code of a weight is the k bits
// at bit k t of the string, so codes alone have no value.
//
//===----------------------------------------------------------------------===//

#include "BuiltinFormats.h"
#include "TrellisCode.h"
#include "Viterbi.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/Layout.h"
#include <array>
#include <cmath>

using namespace quench;

namespace {
/// The bits of a tile, those of its begin once more behind its end.
class TileBits {
public:
  TileBits(unsigned k) : k(k), size(kTileSize * k) {}
  void set(int64_t weight, uint32_t code) {
    put(weight * k, code);
    if (weight * k < 16)
      put(weight * k + size, code);
  }
  uint32_t window(int64_t weight) const {
    int64_t bit = weight * k;
    return (bytes[bit >> 3] | bytes[(bit >> 3) + 1] << 8 |
            bytes[(bit >> 3) + 2] << 16) >>
               (bit & 7) &
           0xffff;
  }

private:
  void put(int64_t bit, uint32_t code) {
    code <<= bit & 7;
    bytes[bit >> 3] |= code;
    bytes[(bit >> 3) + 1] |= code >> 8;
  }
  unsigned k;
  int64_t size;
  uint8_t bytes[kTileSize * 6 / 8 + 8] = {};
};

class TrellisFormat : public Format {
public:
  TrellisFormat(unsigned k, llvm::StringRef codeName, bool isDefault,
                bool tensorScale);
  std::string spec() const override { return text; }
  int64_t group() const override { return 0; }
  bool hasScale() const override { return !tensorScale; }
  bool hasTensorScale() const override { return tensorScale; }
  unsigned codeBits() const override { return k; }
  int64_t tileRows() const override { return kTileSide; }
  int64_t tileColumns() const override { return kTileSide; }
  const BlockLayout &layout() const override { return blockLayout; }
  bool isInteger() const override { return code->isInteger(); }
  int64_t bias() const override { return isInteger() ? 128 : 0; }
  float unit() const override { return code->unit(); }

  GroupParams fit(const float *values, int64_t n,
                  const FitOptions &options) const override;
  float fitTensor(const float *values, int64_t n,
                  const FitOptions &options) const override;
  uint32_t nearest(const float *, GroupParams) const override { return 0; }
  void decode(uint32_t, GroupParams, float *value) const override {
    *value = 0;
  }
  void nearestTile(const float *values, const GroupParams *params,
                   const float *weights, uint32_t *codes) const override {
    encodeTile(nullptr, values, params, weights, codes);
  }
  void nearestTileIn(const float *matrix, const float *values,
                     const GroupParams *params, const float *weights,
                     uint32_t *codes) const override {
    RunMetric metric;
    bool good = metric.set(matrix);
    encodeTile(good ? &metric : nullptr, values, params, weights, codes);
  }
  void decodeTile(const uint32_t *codes, const GroupParams *params,
                  float *values) const override;
  void decodeStep(RegisterBuilder &builder, int64_t offset, bool inPlace,
                  llvm::SmallVectorImpl<Plane> &planes) const override;
  void
  decodeFloatStep(RegisterBuilder &builder, int64_t offset,
                  llvm::SmallVectorImpl<FloatPlane> &planes) const override;

private:
  void encodeTile(const RunMetric *metric, const float *values,
                  const GroupParams *params, const float *weights,
                  uint32_t *codes) const;
  float plainScale(const float *values, int64_t n) const;
  double errorOf(const float *values, int64_t n, int64_t stride,
                 float scale) const;
  float searchedScale(const float *values, int64_t n) const;
  Trellis trellis() const {
    return {k, code->stateBits(), code->levels().data()};
  }
  StepLayout stepLayout() const;
  std::vector<Reg> tileWords(RegisterBuilder &builder,
                             llvm::ArrayRef<Reg> lines, int64_t tile) const;
  /// Calls fn(windows, quad of the tile, quad of the step) for all quads.
  void forEachQuad(
      RegisterBuilder &builder, int64_t offset,
      llvm::function_ref<void(TrellisWindows &, unsigned, unsigned)> fn) const;

  unsigned k;
  std::unique_ptr<TrellisCode> code;
  bool tensorScale;
  std::string text;
  BlockLayout blockLayout;
};
} // namespace

static llvm::StringRef defaultCode(unsigned k) {
  // Beyond four bits a state of 12 bits remembers too little.
  return k <= 4 ? "lin12" : "lin14";
}

TrellisFormat::TrellisFormat(unsigned k, llvm::StringRef codeName,
                             bool isDefault, bool tensorScale)
    : k(k), code(makeTrellisCode(codeName, k)), tensorScale(tensorScale) {
  std::vector<std::string> arguments{std::to_string(k)};
  if (!isDefault)
    arguments.push_back(("code = " + codeName).str());
  if (tensorScale)
    arguments.push_back("scale = tensor");
  text = formatSpec("trellis", arguments);
  blockLayout = makeBlockLayout(stepLayout(), 0, 0);
}

//===----------------------------------------------------------------------===//
// Encode and decode on the host
//===----------------------------------------------------------------------===//

float TrellisFormat::plainScale(const float *values, int64_t n) const {
  double square = 0;
  for (int64_t i = 0; i < n; ++i)
    if (std::isfinite(values[i]))
      square += double(values[i]) * values[i];
  return n ? std::sqrt(square / n) / (code->rms() * unit() * code->bestScale(k))
           : 0;
}

/// `x` in steps of the levels, so that costs stay finite.
static float inSteps(float value, float inverse) {
  float x = value * inverse;
  x = x > -1e6f ? x : -1e6f; // NaN too
  return x < 1e6f ? x : 1e6f;
}

/// The error of every stride-th sequence of 256 values.
double TrellisFormat::errorOf(const float *values, int64_t n, int64_t stride,
                              float scale) const {
  double sum = 0;
  float x[kTileSize], step = scale * unit();
  uint32_t states[kTileSize];
  for (int64_t first = 0; first < n; first += stride * kTileSize) {
    int64_t length = std::min(kTileSize, n - first);
    int64_t runs = (length + kTrellisRun - 1) / kTrellisRun * kTrellisRun;
    for (int64_t i = 0; i < runs; ++i)
      x[i] = i < length ? inSteps(values[first + i], 1 / step) : 0.0f;
    viterbi(trellis(), x, runs, nullptr, states);
    for (int64_t i = 0; i < length; ++i) {
      double error = x[i] - code->levels()[states[i]];
      sum += error * error;
    }
  }
  return sum * step * step;
}

/// The best of some scales on a few sequences: the order of weights hardly
/// matters for the error.
float TrellisFormat::searchedScale(const float *values, int64_t n) const {
  float plain = plainScale(values, n), best = plain;
  if (!(plain > 0) || !std::isfinite(1 / plain))
    return plain;
  int64_t sequences = (n + kTileSize - 1) / kTileSize;
  int64_t stride = std::max<int64_t>(1, sequences / 4);
  double plainError = errorOf(values, n, stride, plain), least = plainError;
  for (float factor : {0.86f, 0.93f, 1.08f, 1.16f}) {
    double error = errorOf(values, n, stride, plain * factor);
    if (error < least) {
      least = error;
      best = plain * factor;
    }
  }
  // A few sequences cannot tell small gains from chance.
  return least < 0.98 * plainError ? best : plain;
}

GroupParams TrellisFormat::fit(const float *values, int64_t n,
                               const FitOptions &options) const {
  GroupParams params;
  params.scale = scaleToHalf(options.search ? searchedScale(values, n)
                                            : plainScale(values, n));
  return params;
}

float TrellisFormat::fitTensor(const float *values, int64_t n,
                               const FitOptions &options) const {
  float scale =
      options.search ? searchedScale(values, n) : plainScale(values, n);
  return scale > 0 && std::isfinite(scale) ? scale : 1.0f;
}

void TrellisFormat::encodeTile(const RunMetric *metric, const float *values,
                               const GroupParams *params, const float *weights,
                               uint32_t *codes) const {
  float x[kTileSize], rowWeights[kTileSide], most = 0, least = 3e38f;
  uint32_t states[kTileSize];
  for (int64_t r = 0; r < kTileSide; ++r) {
    float scale = params ? halfToFloat(params[r].scale) : 1.0f;
    float inverse = scale == 0 ? 0 : 1 / (scale * unit());
    for (int64_t c = 0; c < kTileSide; ++c)
      x[kTileSide * r + c] = inSteps(values[kTileSide * r + c], inverse);
    rowWeights[r] = scale * scale * (weights ? weights[r] : 1.0f);
    most = std::max(most, rowWeights[r]);
    least = std::min(least, rowWeights[r]);
  }
  // A row that does not count still needs a cost.
  for (float &weight : rowWeights)
    weight = std::max(weight, 1e-6f * most);
  const float *used = least == most ? nullptr : rowWeights;
  if (metric)
    viterbiTailBiting(trellis(), x, kTileSize, used, *metric, states);
  else
    viterbiTailBiting(trellis(), x, kTileSize, used, states);
  TileBits bits(k);
  for (int64_t t = 0; t < kTileSize; ++t)
    codes[t] = states[t] & ((1u << k) - 1);
  // The state of a weight begins offset() bits after its code.
  if (unsigned offset = code->offset()) {
    for (int64_t t = 0; t < kTileSize; ++t)
      bits.set(t, codes[t]);
    int64_t whole = (offset + k - 1) / k; // of codes
    unsigned back = whole * k - offset;
    for (int64_t t = 0; t < kTileSize; ++t)
      codes[(t + whole) % kTileSize] = bits.window(t) >> back & ((1u << k) - 1);
  }
}

void TrellisFormat::decodeTile(const uint32_t *codes, const GroupParams *params,
                               float *values) const {
  TileBits bits(k);
  for (int64_t t = 0; t < kTileSize; ++t)
    bits.set(t, codes[t]);
  uint32_t mask = (1u << code->stateBits()) - 1;
  for (int64_t t = 0; t < kTileSize; ++t) {
    float scale = params ? halfToFloat(params[t / kTileSide].scale) : 1.0f;
    float level = code->levels()[bits.window(t) >> code->offset() & mask];
    values[t] = scale * (unit() * level);
  }
}

//===----------------------------------------------------------------------===//
// Packed form and decode in registers
//===----------------------------------------------------------------------===//

/// Four bits: each half of a row is a lane. Otherwise the bits of a tile follow
/// one another; with an odd number of bits two tiles make whole lines.
StepLayout TrellisFormat::stepLayout() const {
  StepLayout step;
  int64_t tiles = k % 2 ? 2 : 1;
  step.columns = tiles * kTileSide;
  step.bytes = tiles * kTileSize * k / 8;
  step.unit = k == 4 ? 64 : step.bytes;
  Component component{"code", k, 0, {}, 0};
  if (k == 4)
    component.digits = {{'r', 16, 1, 32}, {'k', 8, 1, 4}, {'k', 2, 8, 512}};
  else
    component.digits = {{'r', 16, 1, 16 * k}, {'k', 16, 1, k}};
  if (tiles == 2)
    component.digits.push_back({'k', 2, kTileSide, kTileSize * k});
  step.components.push_back(component);
  return step;
}

/// See TrellisWindows.
std::vector<Reg> TrellisFormat::tileWords(RegisterBuilder &builder,
                                          llvm::ArrayRef<Reg> lines,
                                          int64_t tile) const {
  if (k == 2 || k == 4) {
    std::array<uint8_t, 64> next; // lane r + 1
    for (unsigned i = 0; i < 64; ++i)
      next[i] = (i + 4) % 64;
    std::vector<Reg> words = lines;
    words.push_back(builder.permute(lines[0], next));
    return words;
  }
  std::vector<Reg> words;
  int64_t rowBytes = 2 * k, tileBytes = kTileSide * rowBytes;
  for (int64_t word = 0; 4 * word < rowBytes + 2; ++word) {
    std::array<int64_t, 64> places;
    for (int64_t i = 0; i < 64; ++i)
      places[i] =
          tile * tileBytes + (i / 4 * rowBytes + 4 * word + i % 4) % tileBytes;
    words.push_back(permuteLines(builder, lines, places));
  }
  return words;
}

void TrellisFormat::forEachQuad(
    RegisterBuilder &builder, int64_t offset,
    llvm::function_ref<void(TrellisWindows &, unsigned, unsigned)> fn) const {
  llvm::SmallVector<Reg, 5> lines;
  for (int64_t at = 0; at < blockLayout.bytes; at += 64)
    lines.push_back(builder.load(offset + at));
  for (int64_t tile = 0; tile < blockLayout.stepColumns / kTileSide; ++tile) {
    TrellisWindows windows(builder, k, tileWords(builder, lines, tile));
    for (unsigned quad = 0; quad < 4; ++quad)
      fn(windows, quad, 4 * tile + quad);
  }
}

void TrellisFormat::decodeStep(RegisterBuilder &builder, int64_t offset, bool,
                               llvm::SmallVectorImpl<Plane> &planes) const {
  if (!isInteger())
    return;
  forEachQuad(builder, offset,
              [&](TrellisWindows &windows, unsigned quad, unsigned at) {
                planes.push_back({code->decode(windows, quad), at, 0, 255});
              });
}

void TrellisFormat::decodeFloatStep(
    RegisterBuilder &builder, int64_t offset,
    llvm::SmallVectorImpl<FloatPlane> &planes) const {
  if (isInteger())
    return Format::decodeFloatStep(builder, offset, planes);
  forEachQuad(builder, offset,
              [&](TrellisWindows &windows, unsigned quad, unsigned at) {
                for (unsigned column = 0; column < 4; ++column)
                  planes.push_back({code->decodeFloats(windows, quad, column),
                                    4 * at + column});
              });
}

static FormatRegistration registration(
    "trellis",
    "k bits a weight in tiles of 16 x 16, chosen by Viterbi's method",
    [](const FormatArgs &args) -> llvm::Expected<std::unique_ptr<Format>> {
      FormatArgReader reader(args);
      unsigned k = reader.number("bits", 1, 6);
      std::string code = reader.choiceOption("code", trellisCodeNames());
      bool tensor = reader.choiceOption("scale", {"tensor", "row"}) == "tensor";
      if (llvm::Error error = reader.finish())
        return std::move(error);
      if (code.empty())
        code = defaultCode(k).str();
      return std::make_unique<TrellisFormat>(k, code, code == defaultCode(k),
                                             tensor);
    });

QUENCH_BUILTIN_FORMAT(Trellis)
