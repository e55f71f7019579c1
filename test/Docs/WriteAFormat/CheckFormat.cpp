//===- CheckFormat.cpp - Is a format what it says? --------------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// check-format SPEC: encodes random weights and checks that
//   each code is the nearest of all codes,
//   the packed stream, read row by row, gives the numbers of the codes,
//   the decode in registers gives the same numbers.
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/Half.h"
#include "quench/Quantization/HostRegisters.h"
#include "quench/Quantization/Packing.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"
#include <cmath>
#include <random>

using namespace quench;

static int fail(const llvm::Twine &what) {
  llvm::errs() << "check-format: " << what << "\n";
  return 1;
}

/// A single row block and its decode, lane by lane, in units of the format.
static bool registersAgree(const Format &format) {
  const BlockLayout &layout = format.layout();
  const Component *code = nullptr;
  for (const Component &component : layout.components)
    if (component.name == "code")
      code = &component;
  if (!code || layout.codeStride != 1)
    return false; // this program knows codes in one part only
  std::mt19937 random(2);
  std::vector<uint8_t> block(layout.bytes);
  for (uint8_t &byte : block)
    byte = random();
  HostRegisters registers(block);
  llvm::SmallVector<Plane> planes;
  format.decodePlanes(registers, /*inPlace=*/false, planes);
  if (int64_t(planes.size()) != layout.quads())
    return false;
  for (const Plane &plane : planes)
    for (int64_t row = 0; row < kBlockRows; ++row)
      for (int64_t i = 0; i < 4; ++i) {
        int64_t staged = 4 * plane.quad + i;
        int64_t column = layout.xOrder.empty() ? staged : layout.xOrder[staged];
        int64_t bit = 8 * code->offset;
        for (const Digit &digit : code->digits)
          bit += (digit.axis == 'r' ? row : column) / digit.stride %
                 digit.count * digit.bits;
        uint32_t stored = block[bit / 8] >> bit % 8 & ((1u << code->bits) - 1);
        float value;
        GroupParams params;
        params.scale = floatToHalf(1.0f);
        format.decode(stored, params, &value);
        int lane = HostRegisters::bytes(plane.value)[4 * row + i];
        float decoded = (lane - format.bias()) * format.unit();
        if (std::fabs(decoded - value) > 1e-6f || lane > int(plane.hi))
          return false;
      }
  return true;
}

int main(int argc, char **argv) {
  if (argc != 2)
    return fail("expected one argument, the text of a format");
  llvm::Expected<const Format *> found = getFormat(argv[1]);
  if (!found)
    return fail(llvm::toString(found.takeError()));
  const Format &format = **found;

  constexpr int64_t rows = kPassRows, cols = 200; // a ragged last group
  std::mt19937 random(1);
  std::normal_distribution<float> gaussian;
  std::vector<float> weight(rows * cols), plain(rows * cols), row(cols);
  for (float &value : weight)
    value = gaussian(random);
  EncodedRows encoded =
      encodeNearest(format, weight.data(), rows, cols, FitOptions());
  decodeRows(format, encoded, plain.data());

  double error = 0, square = 0;
  std::vector<int32_t> columns = codeColumns(format, cols);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      int64_t group = format.group() ? c / format.group() : 0;
      GroupParams params =
          encoded.params[r * format.groupsPerRow(cols) + group];
      float value = weight[r * cols + c], nearest = plain[r * cols + c], other;
      for (uint32_t code = 0; code < 1u << format.codeBits(); ++code) {
        format.decode(code, params, &other);
        if (std::fabs(other - value) < std::fabs(nearest - value) - 1e-6f)
          return fail("a code is not the nearest one");
      }
      error += (nearest - value) * (nearest - value);
      square += value * value;
    }

  StreamShape shape(format, rows, cols);
  std::vector<uint8_t> stream(shape.bytes);
  packPass(format, encoded, stream.data());
  for (int64_t r = 0; r < rows; ++r) {
    unpackRow(format, stream.data(), rows, cols, r, row.data());
    if (!std::equal(row.begin(), row.end(), plain.begin() + r * cols))
      return fail("row " + llvm::Twine(r) + " of the stream differs");
  }
  if (!registersAgree(format))
    return fail("the decode in registers differs");
  llvm::outs() << format.spec() << ": "
               << llvm::format("%.2f",
                               double(format.bits(rows, cols)) / (rows * cols))
               << " bits, "
               << llvm::format("%.1f", 10 * std::log10(square / error))
               << " dB\n";
  return 0;
}
