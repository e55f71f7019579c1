//===- GemvSums.cpp - One row of int8 codes times sums of codewords -------===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For formats whose codewords are sums of vectors from tables of 256
// (Format::sumTables()). The products of the activations with all vectors are
// made first, 16 bits each, in tables of their low and high bytes; then the
// codes of the weight look them up, 64 rows at once. Sums of integers are exact
// in any order, so the result has the bits of the other kernels.
//
// The columns are cut into chunks whose tables stay in the first cache; all
// pairs of passes of a worker (or kPairs of them) are done with one chunk
// before the next. A pair that a worker has only one pass of is summed whole,
// and half of it is stored.
//
//===----------------------------------------------------------------------===//

#include "Shape.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "quench/Dialect/QK/IR/QK.h"

using namespace mlir;
using namespace quench;

namespace {

/// Bytes of the tables of a chunk.
constexpr int64_t kChunkBytes = 16384;
/// Pairs of passes (64 rows) that share the tables of a chunk.
constexpr int64_t kPairs = 64;
/// Pairs that share the loads of a table.
constexpr int64_t kTogether = 2;
/// Rows of a pair, and lanes of its sums of 16 bits: four registers.
constexpr int64_t kPairRows = 2 * kPassRows, kWidePair = 4 * 32;
/// Entries of a table, and bytes of the low and high bytes of its products.
constexpr int64_t kEntries = 256, kTableBytes = 2 * kEntries;
/// Added to each product, so that it has no sign.
constexpr int64_t kOffset = 32768;

/// Sums of bytes in lanes of 16 bits: `all` of both bytes of a lane, wrapping,
/// and `odd` of the high ones.
struct WideSum {
  Value all, odd;
};

class GemvSums {
public:
  GemvSums(Emitter &e, const KernelShape &s, Block &entry)
      : e(e), s(s), w(entry.getArgument(0)), wOffset(entry.getArgument(1)),
        x(entry.getArgument(2)), scale(entry.getArgument(3)),
        y(entry.getArgument(5)), lo(entry.getArgument(6)),
        hi(entry.getArgument(7)), tables(s.format.sumTables()),
        length(s.format.codeLength()), fours(s.stream.paddedCols / length / 4),
        halves(VectorType::get({32}, e.b.getI16Type())) {
    chunk = std::max<int64_t>(1, kChunkBytes / (4 * tables * kTableBytes));
    chunk = std::min(chunk, fours);
    span = std::max<int64_t>(1, 65535 / (4 * tables * 255) / chunk) * chunk;
  }

  void emit() {
    book = scratch(tables * length * kEntries, e.b.getI8Type());
    products = scratch(4 * chunk * tables * kTableBytes, e.b.getI8Type());
    row = scratch(length, e.b.getI32Type());
    wides = scratch((kPairs + kTogether) * kWidePair, e.b.getI16Type());
    sums = scratch((kPairs + kTogether) * kPairRows, e.b.getI32Type());
    Value sx = e.load(scale, e.index(0));
    if (Value unit = unitScale(e, s.format, w, wOffset))
      sx = e.mulFloat(sx, unit);
    sx = e.broadcast(sx, e.floats);
    turnBook();
    Value two = e.index(2);
    Value lastPair = arith::CeilDivUIOp::create(e.b, e.loc, hi, two);
    e.loop(arith::DivUIOp::create(e.b, e.loc, lo, two), lastPair, kPairs,
           [&](Value first) {
             addPairs(first, least(lastPair, e.add(first, kPairs)), sx);
           });
  }

private:
  Value scratch(int64_t size, Type type) {
    return memref::AllocaOp::create(e.b, e.loc, MemRefType::get({size}, type),
                                    e.b.getI64IntegerAttr(64));
  }
  Value least(Value a, Value b) {
    return arith::MinSIOp::create(e.b, e.loc, a, b);
  }
  Value zeroHalves() {
    return arith::ConstantOp::create(e.b, e.loc, e.b.getZeroAttr(halves));
  }
  Value load(Value memref, Value at, VectorType type) {
    return e.loadVector(memref, at, type);
  }

  /// Two vectors, their pieces of `size` bytes in turn: of the first halves
  /// (`second`: of the second halves).
  Value interleave(Value a, Value c, int64_t size, bool second) {
    SmallVector<int64_t, 64> order;
    for (int64_t i = 0; i < 64; ++i)
      order.push_back(i / size % 2 * 64 + second * 32 + i / (2 * size) * size +
                      i % size);
    return e.shuffle(a, c, order);
  }

  /// Four coordinates of each vector become a word: book[table][coordinate /
  /// 4][256] words.
  void turnBook() {
    Value table = tableOf(e, s, wOffset);
    e.loop(
        e.index(0), e.index(tables * length / 4 * kEntries), 64, [&](Value at) {
          // Entry `at` of all quads: 1024 bytes a quad.
          Value quad =
              arith::DivUIOp::create(e.b, e.loc, at, e.index(kEntries));
          Value from = e.add(e.add(table, at), e.mul(quad, 3 * kEntries));
          Value lines[4], pairs[4];
          for (int64_t j = 0; j < 4; ++j)
            lines[j] = load(w, e.add(from, j * kEntries), e.bytes);
          for (int64_t i = 0; i < 4; ++i)
            pairs[i] =
                interleave(lines[i / 2 * 2], lines[i / 2 * 2 + 1], 1, i % 2);
          for (int64_t i = 0; i < 4; ++i)
            e.storeVector(interleave(pairs[i / 2], pairs[2 + i / 2], 2, i % 2),
                          book, e.add(e.mul(at, 4), 64 * i));
        });
  }

  Value dot(Value acc, Value bytes, Value xv) {
    return qk::Dot4Op::create(e.b, e.loc, acc, bytes, xv, 255);
  }

  /// The tables of the codewords of fours [from, to).
  void makeProducts(Value from, Value to) {
    auto words = VectorType::get({4}, e.b.getI32Type());
    auto bytes = VectorType::get({16}, e.b.getI8Type());
    int64_t bias = s.format.bias() / tables;
    e.loop(from, to, 1, [&](Value four) {
      // Staged is a coordinate of four codewords; wanted are four coordinates
      // of each.
      for (int64_t j = 0; j < length; j += 4) {
        Value v = load(x, e.add(e.mul(four, length), j), words);
        SmallVector<int64_t, 16> order;
        for (int64_t i = 0; i < 16; ++i)
          order.push_back(i % 4 * 4 + i / 4);
        v = e.bitcast(v, bytes);
        e.storeVector(e.bitcast(e.shuffle(v, v, order), words), row,
                      e.index(j));
      }
      Value place = arith::SubIOp::create(e.b, e.loc, four, from);
      e.loop(e.index(0), e.index(4), 1, [&](Value word) {
        SmallVector<Value> xs;
        Value start = e.splat(0);
        Value biases = e.bitcast(e.splat(bias * 0x01010101), e.bytes);
        for (int64_t j = 0; j < length / 4; ++j) {
          xs.push_back(e.load(row, e.add(word, 4 * j)));
          start = dot(start, biases, xs.back());
        }
        start = arith::SubIOp::create(e.b, e.loc, e.splat(kOffset), start);
        Value to = e.mul(e.add(e.mul(place, 4), word), tables * kTableBytes);
        for (int64_t t = 0; t < tables; ++t)
          e.loop(e.index(0), e.index(kEntries), 64, [&](Value entry) {
            productsOf(t, entry, xs, start,
                       e.add(e.add(to, entry), t * kTableBytes));
          });
      });
    });
  }

  /// Products of vectors entry .. entry + 63 of table t.
  void productsOf(int64_t t, Value entry, ArrayRef<Value> xs, Value start,
                  Value to) {
    Value parts[2]; // low bytes of 32 products, then their high bytes
    for (int64_t p = 0; p < 2; ++p) {
      Value accs[2];
      for (int64_t i = 0; i < 2; ++i) {
        accs[i] = start;
        for (auto [j, xv] : llvm::enumerate(xs)) {
          int64_t at = (t * length / 4 + j) * 4 * kEntries + 64 * (2 * p + i);
          accs[i] =
              dot(accs[i], load(book, e.add(e.mul(entry, 4), at), e.bytes), xv);
        }
        accs[i] = e.bitcast(accs[i], e.bytes);
      }
      SmallVector<int64_t, 64> order;
      for (int64_t i = 0; i < 64; ++i)
        order.push_back(i % 32 * 4 + i / 32);
      parts[p] = e.shuffle(accs[0], accs[1], order);
    }
    for (int64_t high = 0; high < 2; ++high) {
      SmallVector<int64_t, 64> order;
      for (int64_t i = 0; i < 64; ++i)
        order.push_back(i / 32 * 64 + high * 32 + i % 32);
      e.storeVector(e.shuffle(parts[0], parts[1], order), products,
                    e.add(to, high * kEntries));
    }
  }

  /// Bytes from the start of a block to the codes of table t of a codeword, for
  /// all rows of a pair.
  int64_t placeOf(int64_t t, int64_t word) const {
    for (const Component &part : s.layout.components) {
      if (part.codeShift != 8 * t || part.bits != 8)
        continue;
      int64_t bit = 8 * part.offset;
      for (const Digit &digit : part.digits)
        if (digit.axis == 'k')
          bit += word * length / digit.stride % digit.count * digit.bits;
      return interleavedOffset(s.layout, 0, bit / 8);
    }
    return 0;
  }

  void widen(WideSum &sum, Value bytes) {
    Value v = e.bitcast(bytes, halves);
    sum.all = e.addInt(sum.all, v);
    Value eight = arith::ConstantOp::create(
        e.b, e.loc, DenseElementsAttr::get(halves, int16_t(8)));
    v = arith::ShRUIOp::create(e.b, e.loc, v, eight);
    sum.odd = e.addInt(sum.odd, v);
  }

  /// All columns of pairs [first, end).
  void addPairs(Value first, Value end, Value sx) {
    auto slot = [&](Value pair) {
      return arith::SubIOp::create(e.b, e.loc, pair, first).getResult();
    };
    Value slots = e.add(slot(end), kTogether - 1);
    e.loop(e.index(0), e.mul(slots, kPairRows), kBlockRows,
           [&](Value at) { e.storeVector(e.splat(0), sums, at); });
    e.loop(e.index(0), e.mul(slots, kWidePair), 32,
           [&](Value at) { e.storeVector(zeroHalves(), wides, at); });
    e.loop(e.index(0), e.index(fours), span, [&](Value begin) {
      Value until = least(e.index(fours), e.add(begin, span));
      e.loop(begin, until, chunk, [&](Value four) {
        Value last = least(until, e.add(four, chunk));
        makeProducts(four, last);
        e.loop(first, end, kTogether, [&](Value pair) {
          addChunk(pair, slot(pair), end, four, last);
        });
      });
      e.loop(first, end, 1, [&](Value pair) { gatherSums(slot(pair)); });
    });
    auto most = [&](Value a, Value b) {
      return arith::MaxSIOp::create(e.b, e.loc, a, b).getResult();
    };
    Value pass = e.mul(first, 2);
    e.loop(most(lo, pass), least(hi, e.mul(end, 2)), 1, [&](Value p) {
      Value place = arith::SubIOp::create(e.b, e.loc, p, pass);
      finish(p, e.mul(place, kPassRows), sx);
    });
  }

  /// Adds the products of fours [from, to) to the sums of pairs pair .. pair +
  /// kTogether - 1; `slot` is the place of `pair` in the sums. Pairs from `end`
  /// on repeat the last one, nobody reads their sums.
  void addChunk(Value pair, Value slot, Value end, Value from, Value to) {
    Value bases[kTogether];
    for (int64_t i = 0; i < kTogether; ++i)
      bases[i] = passBase(e, s, wOffset,
                          e.mul(least(e.add(pair, i), e.add(end, -1)), 2));
    Value at = e.mul(slot, kWidePair);
    Emitter::Values inits;
    for (int64_t i = 0; i < 4 * kTogether; ++i)
      inits.push_back(load(wides, e.add(at, 32 * i), halves));
    Emitter::Values ends =
        e.loop(from, to, 1, inits, [&](Value four, ValueRange in) {
          WideSum wide[kTogether][2];
          for (int64_t i = 0; i < 2 * kTogether; ++i)
            wide[i / 2][i % 2] = {in[2 * i], in[2 * i + 1]};
          addFour(bases, four, from, wide);
          Emitter::Values out;
          for (auto &pair : wide)
            for (WideSum &sum : pair)
              out.append({sum.all, sum.odd});
          return out;
        });
    for (int64_t i = 0; i < 4 * kTogether; ++i)
      e.storeVector(ends[i], wides, e.add(at, 32 * i));
  }

  /// Moves the sums of 16 bits of a pair to those of 32 bits.
  void gatherSums(Value slot) {
    Value at = e.mul(slot, kWidePair), parts[4];
    for (int64_t i = 0; i < 4; ++i) {
      Value from = e.add(at, 32 * i);
      parts[i] = load(wides, from, halves);
      e.storeVector(zeroHalves(), wides, from);
    }
    storeSums({parts[0], parts[1]}, {parts[2], parts[3]},
              e.mul(slot, kPairRows));
  }

  void addFour(ArrayRef<Value> bases, Value four, Value from,
               WideSum (&wide)[kTogether][2]) {
    Value at = e.mul(four, s.blockBytes());
    Value place = arith::SubIOp::create(e.b, e.loc, four, from);
    for (int64_t word = 0; word < 4; ++word)
      for (int64_t t = 0; t < tables; ++t) {
        Value codes[kTogether];
        for (int64_t i = 0; i < kTogether; ++i) {
          Value line = e.add(e.add(bases[i], at), placeOf(t, word));
          codes[i] = load(w, line, e.bytes);
          if (s.spec.prefetch)
            e.prefetch(w, e.add(line, kTogether * 2 * s.stream.passBytes));
        }
        Value table = e.add(e.mul(place, 4 * tables * kTableBytes),
                            (word * tables + t) * kTableBytes);
        for (int64_t high = 0; high < 2; ++high) {
          SmallVector<Value, 4> entries;
          for (int64_t i = 0; i < kEntries; i += 64)
            entries.push_back(
                load(products, e.add(table, high * kEntries + i), e.bytes));
          for (int64_t i = 0; i < kTogether; ++i)
            widen(wide[i][high], qk::LookupValuesOp::create(e.b, e.loc, e.bytes,
                                                            codes[i], entries));
        }
      }
  }

  /// Adds low + 256 high of 64 rows to the sums from place `at` on.
  void storeSums(const WideSum &low, const WideSum &high, Value at) {
    auto split = [&](const WideSum &sum) {
      Value eight = arith::ConstantOp::create(
          e.b, e.loc, DenseElementsAttr::get(halves, int16_t(8)));
      Value odd = arith::ShLIOp::create(e.b, e.loc, sum.odd, eight);
      return arith::SubIOp::create(e.b, e.loc, sum.all, odd).getResult();
    };
    Value evens[2] = {split(low), split(high)}, odds[2] = {low.odd, high.odd};
    for (int64_t rows = 0; rows < 64; rows += kBlockRows) {
      SmallVector<int64_t, 16> order;
      for (int64_t i = 0; i < kBlockRows; ++i)
        order.push_back(i % 2 * 32 + (rows + i) / 2);
      Value parts[2];
      for (int64_t i = 0; i < 2; ++i)
        parts[i] = arith::ExtUIOp::create(e.b, e.loc, e.words,
                                          e.shuffle(evens[i], odds[i], order));
      Value to = e.add(at, rows), sum = load(sums, to, e.words);
      sum = e.addInt(sum, parts[0]);
      sum = e.addInt(sum,
                     arith::ShLIOp::create(e.b, e.loc, parts[1], e.splat(8)));
      e.storeVector(sum, sums, to);
    }
  }

  /// Scales and stores pass `pass`, whose sums begin at place `at`.
  void finish(Value pass, Value at, Value sx) {
    Value base = passBase(e, s, wOffset, pass);
    int64_t offset = 4 * fours * tables * kOffset;
    for (int64_t h = 0; h < kPassBlocks; ++h) {
      Value sum = load(sums, e.add(at, h * kBlockRows), e.words);
      sum = arith::SubIOp::create(e.b, e.loc, sum,
                                  e.splat(static_cast<int32_t>(offset)));
      Value v = e.mulFloat(e.toFloat(sum), sx);
      if (s.rowScales)
        v = e.mulFloat(v, loadRowScales(e, s, w, base, h));
      Value row = e.add(e.mul(pass, kPassRows), h * kBlockRows);
      storeRows(e, s.spec, v, y, row, row);
    }
  }

  Emitter &e;
  const KernelShape &s;
  Value w, wOffset, x, scale, y, lo, hi;
  /// Vectors and fours of codewords (a block of columns), fours of a chunk, and
  /// of so many chunks that sums of bytes fit 16 bits.
  int64_t tables, length, fours, chunk, span;
  VectorType halves;
  Value book, products, row, wides, sums;
};

} // namespace

void quench::emitGemvSums(Emitter &e, const KernelShape &s, Block &entry) {
  GemvSums(e, s, entry).emit();
}
