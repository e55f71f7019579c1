//===- PackingTest.cpp - Streams, layouts, register decodes ---------------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "quench/Quantization/Packing.h"
#include "Samples.h"
#include "quench/Quantization/Half.h"
#include "quench/Quantization/HostRegisters.h"
#include "quench/Quantization/Tail.h"
#include <cstring>
#include <map>
#include <set>

using namespace quench;

static std::vector<std::string> allSpecs() {
  std::vector<std::string> specs{
      "e8p",       "e8p<3>",      "e8p<4>",      "e8p<3, scale = tensor>",
      "float<32>", "float<16>",   "float<bf16>", "dfloat11",
      "ecf8",      "ecf8<tensor>"};
  for (const char *shape :
       {"2x8, group = 8", "1x8, group = 16", "4x4, group = 4", "2x6, group = 3",
        "1x1", "3x3, group = 2", "1x2, group = 1", "2x7, group = 32",
        "1x16, group = 8", "1x12, group = 4", "2x10, group = 8",
        "1x9, group = 12", "1x13, group = 8"})
    specs.push_back("aqlm<" + std::string(shape) + ">");
  for (const char *arguments :
       {"1", "2", "3", "4", "5", "6", "2, scale = tensor", "2, code = lin8",
        "3, code = lin16", "2, code = 1mad", "3, code = 1mad", "6, code = 1mad",
        "2, code = hyb", "5, code = hyb", "1, code = 3inst", "2, code = 3inst",
        "3, code = 3inst", "4, code = 3inst", "6, code = 3inst"})
    specs.push_back("trellis<" + std::string(arguments) + ">");
  for (const char *binary :
       {"sum<binary, binary>", "split<magnitude, binary, binary, group = 96>",
        "split<columns, sum<binary, binary>, split<magnitude, binary, binary>, "
        "group = 128>",
        "split<columns, sum<binary, binary>, sum<binary, binary>, group = "
        "256>",
        "split<columns, binary, binary, group = 32>",
        "split<columns, binary, binary, group = 192>"})
    specs.push_back(binary);
  for (const char *shape : {"1x8, rows = 2", "1x8, rows = 8", "2x8, rows = 16",
                            "4x8, rows = 4", "1x12, rows = 4", "2x12, rows = 8",
                            "1x16, rows = 16", "2x10, rows = 4"})
    specs.push_back("vptq<" + std::string(shape) + ">");
  std::vector<std::string> groups{"", ", group = 32"};
  for (int64_t g : {1, 2, 3, 4, 5, 8, 12, 16, 17, 20, 31, 33, 40, 64, 65, 96,
                    100, 128, 250})
    groups.push_back(", group = " + std::to_string(g));
  for (const std::string &group : groups) {
    bool few = group == "" || group == ", group = 32" ||
               group == ", group = 8" || group == ", group = 100";
    for (int bits = 1; bits <= 8; ++bits) {
      if (!few && bits != 3 && bits != 4)
        continue;
      std::string head = "int<" + std::to_string(bits) + group;
      specs.push_back(head + ">");
      specs.push_back(head + ", zero>");
      if (bits > 1 && bits < 8)
        specs.push_back(head + ", half>");
    }
    if (few)
      specs.push_back("int<4" + group + ", zero = float>");
    for (std::string packing : {"2", "3", "5"})
      specs.push_back("ternary<" + packing + group + ">");
    for (std::string shape : {"fp6<e2m3", "fp6<e3m2", "fp8<e4m3", "fp8<e5m2"})
      if (few)
        specs.push_back(shape + group + ">");
    if (!group.empty())
      specs.push_back("ecf8<" + group.substr(2) + ">");
    std::string argument = group.empty() ? "" : group.substr(2);
    specs.push_back("nf4<" + argument + ">");
    std::string more = argument + (group.empty() ? "" : ", ");
    specs.push_back("nf4<" + more + "bytes>");
    specs.push_back("nf4<" + more + "double>");
    if (few)
      specs.push_back("lut4<" + more + "double>");
  }
  for (const char *spec :
       {"af4", "bnb-fp4", "lut4", "fp4", "mxfp<4>", "mxfp<6>", "mxfp<6, e3m2>",
        "mxfp<8>", "mxfp<8, e5m2>", "nvfp4", "fp8<e4m3, tensor>",
        "ternary<2, tensor>", "ternary<3, tensor>", "ternary<5, tensor>",
        "int<1, tensor>", "int<4, tensor>", "int<2, half, tensor>"})
    specs.push_back(spec);
  return specs;
}

/// Bits from the start of a block to an entry, from its description.
static int64_t bitOf(const Component &component, int64_t r, int64_t k) {
  int64_t bit = 8 * component.offset;
  for (const Digit &digit : component.digits)
    bit +=
        (digit.axis == 'r' ? r : k) / digit.stride % digit.count * digit.bits;
  return bit;
}

TEST(Layout, FieldsDoNotOverlapAndPartsCoverTheBlock) {
  for (const std::string &spec : allSpecs()) {
    SCOPED_TRACE(spec);
    const Format &f = format(spec);
    const BlockLayout &layout = f.layout();
    std::vector<int> owner(layout.bytes * 8, 0);
    int64_t codeBits = 0;
    for (const Component &component : layout.components) {
      std::set<int64_t> starts;
      for (int64_t r = 0; r < kBlockRows; ++r)
        for (int64_t k = 0; k < layout.columns; ++k)
          starts.insert(bitOf(component, r, k));
      for (int64_t start : starts)
        for (unsigned bit = 0; bit < component.bits; ++bit) {
          ASSERT_LT(start + bit, owner.size()) << component.name;
          ASSERT_EQ(owner[start + bit]++, 0) << component.name;
        }
      if (component.name.rfind("code", 0) == 0)
        codeBits += starts.size() * component.bits;
      else
        EXPECT_EQ(int64_t(starts.size()), kBlockRows * layout.groupsPerBlock());
    }
    // What the codes of a tile share is stored once.
    int64_t own = kBlockRows * layout.columns / f.codeLength() *
                  int64_t(f.symbolBits() - f.codedField().bits);
    if (f.symbolBits() != f.codeBits())
      own = f.bits(kBlockRows, layout.columns) - 16 * kBlockRows;
    EXPECT_EQ(codeBits, own);
    int64_t end = 0;
    for (const Part &part : layout.parts) {
      EXPECT_EQ(part.offset, end);
      EXPECT_EQ(part.length % part.unit, 0);
      end += part.length;
    }
    EXPECT_EQ(end, layout.bytes);
    EXPECT_EQ(kPassBlocks * layout.bytes % 64, 0);
    // Interleaving is a permutation of the bytes of the blocks of a pass, or of
    // the passes that share their lines.
    StreamShape shape(f, 1, 1);
    std::set<int64_t> places;
    for (int64_t pass = 0; pass < layout.sharedPasses; ++pass)
      for (int64_t half = 0; half < kPassBlocks; ++half)
        for (int64_t offset = 0; offset < layout.bytes; ++offset)
          places.insert(shape.passOffset(pass) +
                        interleavedOffset(layout, half, offset));
    EXPECT_EQ(int64_t(places.size()), layout.rowBlocks() * layout.bytes);
    EXPECT_EQ(*places.begin(), 0);
    EXPECT_EQ(*places.rbegin(), layout.rowBlocks() * layout.bytes - 1);
    if (!layout.xOrder.empty()) {
      std::set<uint16_t> columns(layout.xOrder.begin(), layout.xOrder.end());
      EXPECT_EQ(int64_t(columns.size()), layout.columns);
    }
  }
}

TEST(Layout, EveryColumnIsStagedOnce) {
  for (const std::string &spec : allSpecs()) {
    const Format &f = format(spec);
    for (int64_t cols : {1, 7, 31, 32, 33, 63, 100, 200, 257}) {
      SCOPED_TRACE(spec + " " + std::to_string(cols));
      std::vector<int32_t> order = stagedOrder(f, cols);
      StreamShape shape(f, 1, cols);
      EXPECT_EQ(int64_t(order.size()), shape.paddedCols);
      std::multiset<int32_t> columns;
      for (int32_t column : order)
        if (column >= 0)
          columns.insert(column);
      EXPECT_EQ(int64_t(columns.size()), cols);
      EXPECT_EQ(std::set<int32_t>(columns.begin(), columns.end()).size(),
                columns.size());
      std::multiset<int32_t> coded;
      for (int32_t column : codeColumns(f, cols))
        if (column >= 0)
          coded.insert(column);
      EXPECT_EQ(coded, columns);
      EXPECT_EQ(int64_t(codeColumns(f, cols).size()),
                codesPerRow(f, cols) * f.codeLength());
    }
  }
}

/// What an encoding shares, for formats with tables: learned once from a few
/// numbers, as that takes its time.
static const EncodedRows *sharedOf(const Format &f) {
  static std::map<const Format *, EncodedRows> known;
  if (!f.tableBytes())
    return nullptr;
  auto [found, isNew] = known.try_emplace(&f);
  if (isNew)
    found->second = fitShared(f, Samples(9).gaussians(32 * 128).data(), 32, 128,
                              FitOptions());
  return &found->second;
}

/// Codes that are searched for take their time.
static bool isSlow(const Format &f) {
  return f.hasTiles() || f.tableBytes() != 0;
}

/// Packs a whole weight.
static std::vector<uint8_t> packAll(const Format &f,
                                    const std::vector<float> &weight,
                                    int64_t rows, int64_t cols,
                                    std::vector<float> &decoded) {
  EncodedRows encoded =
      encodeNearest(f, weight.data(), rows, cols, FitOptions(), sharedOf(f));
  decoded.resize(rows * cols);
  decodeRows(f, encoded, decoded.data());
  return packWeight(f, encoded);
}

static ::testing::AssertionResult sameBits(const std::vector<float> &a,
                                           const float *b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (floatBits(a[i]) != floatBits(b[i]))
      return ::testing::AssertionFailure()
             << "at " << i << ": " << a[i] << " and " << b[i];
  return ::testing::AssertionSuccess();
}

TEST(Packing, RowsComeBack) {
  Samples samples(1);
  for (const std::string &spec : allSpecs()) {
    const Format &f = format(spec);
    int trials = f.tableBytes() > 100000 ? 1 : isSlow(f) ? 2 : 10;
    for (int trial = 0; trial < trials; ++trial) {
      int64_t rows = trial == 0 ? 32 : 1 + samples.below(70);
      int64_t cols = trial == 0 ? 256 : 1 + samples.below(200);
      SCOPED_TRACE(spec + " " + std::to_string(rows) + "x" +
                   std::to_string(cols));
      std::vector<float> weight = samples.gaussians(rows * cols), decoded;
      std::vector<uint8_t> stream = packAll(f, weight, rows, cols, decoded);
      StreamShape shape(f, rows, cols);
      if (f.codedField().bits == 0)
        ASSERT_EQ(int64_t(stream.size()), shape.bytes);
      else
        ASSERT_GT(int64_t(stream.size()), shape.codesOffset);
      std::vector<float> row(cols);
      for (int64_t r = 0; r < rows; ++r) {
        unpackRow(f, stream.data(), rows, cols, r, row.data());
        ASSERT_TRUE(sameBits(row, decoded.data() + r * cols)) << "row " << r;
      }
    }
  }
}

TEST(Packing, EverySmallSizeComesBack) {
  Samples samples(2);
  for (const char *spec :
       {"int<4, group = 32>", "int<3, group = 32, zero>", "ternary<5>",
        "ternary<5, group = 32>", "e8p", "nf4<group = 16>", "float<16>",
        "int<8>", "mxfp<4>", "nvfp4", "ternary<3>", "lut4",
        "nf4<group = 8, double>"}) {
    const Format &f = format(spec);
    for (int64_t rows : {1, 15, 16, 17, 31, 32, 33, 40})
      for (int64_t cols = 1; cols <= 200; ++cols) {
        if (rows != 1 && cols % 13 != 1)
          continue;
        std::vector<float> weight = samples.gaussians(rows * cols), decoded;
        std::vector<uint8_t> stream = packAll(f, weight, rows, cols, decoded);
        std::vector<float> row(cols);
        for (int64_t r = 0; r < rows; ++r) {
          unpackRow(f, stream.data(), rows, cols, r, row.data());
          ASSERT_TRUE(sameBits(row, decoded.data() + r * cols))
              << spec << " " << rows << "x" << cols << " row " << r;
        }
      }
  }
}

/// Every decode in registers against the scalar decode, from the packed stream.
TEST(Packing, RegistersDecodeLikeScalars) {
  Samples samples(3);
  for (const std::string &spec : allSpecs()) {
    const Format &f = format(spec);
    const BlockLayout &layout = f.layout();
    GroupParams one{floatToScale(f.scaleKind(), 1.0f), 0};
    int trials = f.tableBytes() > 100000 ? 1 : isSlow(f) ? 2 : 4;
    for (int trial = 0; trial < trials; ++trial) {
      int64_t rows = 1 + samples.below(32), cols = 1 + samples.below(300);
      SCOPED_TRACE(spec + " " + std::to_string(rows) + "x" +
                   std::to_string(cols));
      // Any codes that the format has: those of random numbers.
      std::vector<float> weight = samples.gaussians(rows * cols);
      EncodedRows encoded = encodeNearest(f, weight.data(), rows, cols,
                                          FitOptions(), sharedOf(f));
      StreamShape shape(f, rows, cols);
      std::vector<uint8_t> pass(shape.sharedPasses * shape.passBytes);
      packPass(f, encoded, pass.data());
      std::vector<uint8_t> stream = packWeight(f, encoded);
      TailReader tail(f, stream.data(), rows, cols);
      for (GroupParams &params : encoded.params)
        params = one;
      encoded.tensorScale = 1;
      std::vector<float> levels(rows * cols);
      decodeRows(f, encoded, levels.data());
      std::vector<int32_t> order = stagedOrder(f, cols);

      for (int64_t b = 0; b < shape.blocks; ++b)
        for (int64_t half = 0; half < kPassBlocks; ++half) {
          std::vector<uint8_t> block(layout.bytes);
          for (int64_t i = 0; i < layout.bytes; ++i)
            block[i] = pass[b * layout.rowBlocks() * layout.bytes +
                            interleavedOffset(layout, half, i)];
          HostRegisters registers(block, encoded.table);
          // The level that position `p` of row `r` must have, if any.
          auto expected = [&](int64_t p, int64_t r, float &level) {
            int64_t column = order[b * layout.columns + p];
            r += half * kBlockRows;
            if (column < 0 || r >= rows)
              return false;
            level = levels[r * cols + column];
            if (f.hasZeroPoint()) // encoded with zero 0 above
              level += 0;
            return true;
          };
          for (bool inPlace : {false, true}) {
            llvm::SmallVector<Plane> planes;
            f.decodePlanes(registers, inPlace, planes);
            if (!f.isInteger()) {
              EXPECT_TRUE(planes.empty());
              break;
            }
            ASSERT_EQ(int64_t(planes.size()), layout.columns / 4);
            std::set<unsigned> quads;
            for (const Plane &plane : planes) {
              EXPECT_TRUE(quads.insert(plane.quad).second);
              EXPECT_TRUE(inPlace || plane.shift == 0);
              const HostReg &lanes = HostRegisters::bytes(plane.value);
              for (int64_t r = 0; r < kBlockRows; ++r)
                for (int64_t j = 0; j < 4; ++j) {
                  float level;
                  if (!expected(4 * plane.quad + j, r, level))
                    continue;
                  int lane = lanes[4 * r + j];
                  EXPECT_LE(lane, int(plane.hi));
                  int64_t units = std::lrint(level / f.unit());
                  ASSERT_EQ(lane, (units + f.bias()) << plane.shift)
                      << "quad " << plane.quad << " row " << r << " lane " << j;
                }
            }
          }
          if (f.codedField().bits != 0)
            registers.setExponents(
                tail.block(half).slice(b * layout.columns * kBlockRows));
          llvm::SmallVector<FloatPlane> planes;
          f.decodeFloats(registers, planes);
          ASSERT_EQ(int64_t(planes.size()), layout.columns);
          std::set<unsigned> positions;
          for (const FloatPlane &plane : planes) {
            EXPECT_TRUE(positions.insert(plane.column).second);
            for (int64_t r = 0; r < kBlockRows; ++r) {
              float level;
              if (!expected(plane.column, r, level))
                continue;
              float value = HostRegisters::floats(plane.value)[r];
              // 1/123 is not a float; the others are exact.
              if (f.unit() == 1.0f / 123)
                value /= 123;
              else
                value *= f.unit();
              ASSERT_EQ(value, level) << "column " << plane.column;
            }
          }
          // Scales and zero points lie where the layout says.
          if (layout.groupColumns == 0)
            continue;
        }
    }
  }
}

/// A kernel's view: scale, zero and codes of each group from the stream alone
/// give the row, up to the order of multiplications.
TEST(Packing, GroupsAsAKernelReadsThem) {
  Samples samples(4);
  for (const std::string &spec : allSpecs()) {
    const Format &f = format(spec);
    const BlockLayout &layout = f.layout();
    if (!f.isInteger() || layout.groupColumns == 0)
      continue;
    int64_t rows = 23, cols = 1 + samples.below(400);
    SCOPED_TRACE(spec + " cols " + std::to_string(cols));
    std::vector<float> weight = samples.gaussians(rows * cols), decoded;
    std::vector<uint8_t> stream = packAll(f, weight, rows, cols, decoded);
    StreamShape shape(f, rows, cols);
    std::vector<int32_t> order = stagedOrder(f, cols);
    float tensor = 1;
    for (int64_t b = 0; b < shape.blocks; ++b)
      for (int64_t half = 0; half < kPassBlocks; ++half) {
        std::vector<uint8_t> block(layout.bytes);
        for (int64_t i = 0; i < layout.bytes; ++i)
          block[i] =
              stream[shape.headerBytes + b * layout.rowBlocks() * layout.bytes +
                     interleavedOffset(layout, half, i)];
        HostRegisters registers(block);
        llvm::SmallVector<Plane> planes;
        f.decodePlanes(registers, false, planes);
        for (const Plane &plane : planes) {
          int64_t g = plane.quad / layout.quadsPerGroup();
          ASSERT_LT(g, layout.groupsPerBlock());
          for (int64_t r = 0; r < kBlockRows; ++r)
            for (int64_t j = 0; j < 4; ++j) {
              int64_t column = order[b * layout.columns + 4 * plane.quad + j];
              int64_t row = half * kBlockRows + r;
              if (column < 0 || row >= rows)
                continue;
              auto read = [&](int64_t from, int64_t bytes) -> uint16_t {
                const uint8_t *at = block.data() + from + bytes * r;
                return bytes == 2 ? at[0] | at[1] << 8 : at[0];
              };
              float scale = scaleToFloat(
                  f.scaleKind(),
                  read(layout.scaleOffset(g), scaleBits(f.scaleKind()) / 8));
              if (f.hasTensorScale())
                std::memcpy(&tensor, stream.data(), sizeof tensor);
              scale *= tensor;
              float zero = 0;
              if (f.hasFloatZero())
                zero = halfToFloat(read(layout.zeroOffset(g), 2));
              else if (f.hasZeroPoint())
                zero = read(layout.zeroOffset(g), 1);
              int lane = HostRegisters::bytes(plane.value)[4 * r + j];
              float value = scale * f.unit() * (lane - f.bias() - zero);
              float want = decoded[row * cols + column];
              ASSERT_NEAR(value, want, 1e-6 * std::fabs(want));
            }
        }
      }
  }
}

TEST(Packing, StreamOfInt4ByHand) {
  // Two rows of 33 columns: two groups, the second ragged.
  const Format &f = format("int<4, group = 32>");
  std::vector<float> weight(2 * 33, 0.0f);
  weight[0] = 7;        // row 0, column 0: level 7, code 15
  weight[5] = -3;       // row 0, column 5: code 5
  weight[32] = 14;      // row 0, group 1: scale 2, level 7
  weight[33 + 31] = -7; // row 1, column 31: level -7, code 1
  std::vector<float> decoded;
  std::vector<uint8_t> stream = packAll(f, weight, 2, 33, decoded);
  StreamShape shape(f, 2, 33);
  EXPECT_EQ(shape.passes, 1);
  EXPECT_EQ(shape.blocks, 2);
  EXPECT_EQ(shape.passBytes, 2 * 2 * 288);
  // Line 0: quads 0 (low) and 1 (high); 4 r + j is the lane.
  EXPECT_EQ(stream[0], 0x8f); // columns 0 and 4
  EXPECT_EQ(stream[1], 0x58); // columns 1 and 5
  EXPECT_EQ(stream[2], 0x88);
  // Line 3 of row block 0 is line 6 of the pass: quads 6 and 7, row 1.
  EXPECT_EQ(stream[6 * 64 + 4 + 3], 0x18);
  // Scales behind 8 lines of codes: 1.0 and 1.0.
  EXPECT_EQ(stream[512], 0x00);
  EXPECT_EQ(stream[513], 0x3c);
  EXPECT_EQ(stream[515], 0x3c);
  // The second block: code 15 at its first place, scale 2.0.
  EXPECT_EQ(stream[576] & 15, 15);
  EXPECT_EQ(stream[576 + 513], 0x40);
}

TEST(Packing, SameInputSameBytes) {
  Samples samples(5);
  std::vector<float> weight = samples.gaussians(32 * 100);
  for (const std::string &spec : allSpecs()) {
    const Format &f = format(spec);
    int64_t rows = f.tableBytes() ? 8 : 32; // their tables are learned, too
    auto pack = [&] {
      return packWeight(
          f, encodeNearest(f, weight.data(), rows, 100, FitOptions()));
    };
    EXPECT_EQ(pack(), pack()) << spec;
  }
}
