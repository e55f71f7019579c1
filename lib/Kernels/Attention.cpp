//===- Attention.cpp - Softmax attention in one pass over the keys -*- C++
//-*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Keys lie in tiles of 16 positions, transposed: a register of scores is a sum
// over the head's numbers of (query number, broadcast) times (16 keys), with no
// sum across lanes. Keys and values are read in blocks of 64 positions that
// begin at multiples of 64; the running maximum and sum follow Milakov and
// Gimelshein, "Online normalizer calculation for softmax" (2018). A tile holds
// the queries of one group of heads, which share keys and values.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "Lanes.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "quench/Kernels/Layers.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace quench;

func::FuncOp quench::getOrCreatePackKeys(ModuleOp module, int64_t kvHeads,
                                         int64_t d) {
  OpBuilder b(module.getContext());
  Type f = flat(b.getF32Type()), i = b.getIndexType();
  bool made;
  func::FuncOp function = makeKernel(
      module, "pack_keys_" + std::to_string(kvHeads) + "x" + std::to_string(d),
      {f, f, i, i, i, i, i, i, i}, made);
  if (!made)
    return function;
  Block &body = function.getBody().front();
  b.setInsertionPointToStart(&body);
  Emitter e(b, function.getLoc());
  Location loc = e.loc;
  auto arg = [&](unsigned n) -> Value { return body.getArgument(n); };
  Value keys = arg(0), packed = arg(1), total = arg(2), tiles = arg(3);
  e.loop(arg(7), arg(8), 1, [&](Value item) {
    Value tile = arith::RemUIOp::create(b, loc, item, tiles);
    Value both = arith::DivUIOp::create(b, loc, item, tiles);
    Value head = arith::RemUIOp::create(b, loc, both, e.index(kvHeads));
    Value batch = arith::DivUIOp::create(b, loc, both, e.index(kvHeads));
    Value source = e.add(e.mul(batch, arg(4)), e.mul(head, arg(5)));
    Value target = e.mul(item, d * kKeyTile);
    e.loop(e.index(0), e.index(kKeyTile), 1, [&](Value lane) {
      Value position = e.add(e.mul(tile, kKeyTile), lane);
      Value inside = e.less(position, total);
      // A position past the end reads position 0 and stores zeros.
      Value safe =
          arith::SelectOp::create(b, loc, inside, position, e.index(0));
      Value row = e.add(source, e.mul(safe, arg(6)));
      e.loop(e.index(0), e.index(d), 1, [&](Value j) {
        Value v = arith::SelectOp::create(
            b, loc, inside, e.load(keys, e.add(row, j)), e.scalarFloat(0));
        e.store(v, packed, e.add(e.add(target, e.mul(j, kKeyTile)), lane));
      });
    });
  });
  func::ReturnOp::create(b, e.loc);
  return function;
}

func::FuncOp quench::getOrCreateAppend(ModuleOp module, int64_t kvHeads,
                                       int64_t d, bool keys) {
  OpBuilder b(module.getContext());
  Type f = flat(b.getF32Type()), i = b.getIndexType();
  bool made;
  func::FuncOp function =
      makeKernel(module,
                 std::string("append_") + (keys ? "keys_" : "values_") +
                     std::to_string(kvHeads) + "x" + std::to_string(d),
                 {f, f, i, i, i, i}, made);
  if (!made)
    return function;
  Block &body = function.getBody().front();
  b.setInsertionPointToStart(&body);
  Emitter e(b, function.getLoc());
  Location loc = e.loc;
  Value rows = body.getArgument(0), cache = body.getArgument(1),
        first = body.getArgument(2), capacity = body.getArgument(3);
  e.loop(body.getArgument(4), body.getArgument(5), 1, [&](Value row) {
    Value position = e.add(first, row);
    Value tile = arith::DivUIOp::create(b, loc, position, e.index(kKeyTile));
    Value lane = arith::RemUIOp::create(b, loc, position, e.index(kKeyTile));
    e.loop(e.index(0), e.index(kvHeads), 1, [&](Value head) {
      Value from = e.add(e.mul(row, kvHeads * d), e.mul(head, d));
      Value base = e.mul(e.mul(head, capacity), d);
      base = keys ? e.add(e.add(base, e.mul(tile, kKeyTile * d)), lane)
                  : e.add(base, e.mul(position, d));
      e.loop(e.index(0), e.index(d), 1, [&](Value j) {
        e.store(e.load(rows, e.add(from, j)), cache,
                e.add(base, keys ? e.mul(j, kKeyTile) : j));
      });
    });
  });
  func::ReturnOp::create(b, e.loc);
  return function;
}

int64_t AttentionSpec::tile() const {
  // 6 rows x 4 registers of scores, 4 of keys: 28 of 32 registers.
  int64_t group = heads / kvHeads;
  return single ? std::min<int64_t>(group, 6) : 6;
}

namespace {

/// e^x for x <= 0, 0 for x < -87: n = round(x log2 e), e^r by a polynomial
/// (relative error 2e-7), times 2^n.
Value expNonPositive(Emitter &e, Value x) {
  OpBuilder &b = e.b;
  Location loc = e.loc;
  Value low = e.splatFloat(-87.0f);
  Value tiny = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x, low);
  Value v =
      arith::MaximumFOp::create(b, loc, x, low, arith::FastMathFlags::nnan);
  Value n = math::RoundEvenOp::create(b, loc,
                                      e.mulFloat(v, e.splatFloat(1.44269504f)));
  Value r = e.fma(n, e.splatFloat(-0.693359375f), v);
  r = e.fma(n, e.splatFloat(2.12194440e-4f), r);
  Value p = e.splatFloat(1.9875691500e-4f);
  for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                  1.6666665459e-1f, 5.0000001201e-1f})
    p = e.fma(p, r, e.splatFloat(c));
  p = e.fma(p, e.mulFloat(r, r), e.addFloat(r, e.splatFloat(1.0f)));
  Value k = arith::FPToSIOp::create(b, loc, e.words, n);
  k = arith::ShLIOp::create(b, loc, e.addInt(k, e.splat(127)), e.splat(23));
  p = e.mulFloat(p, e.bitcast(k, e.floats));
  return arith::SelectOp::create(b, loc, tiny, e.splatFloat(0), p);
}

std::string floatName(float value) {
  return llvm::utohexstr(llvm::bit_cast<uint32_t>(value));
}

} // namespace

func::FuncOp quench::getOrCreateAttention(ModuleOp module,
                                          const AttentionSpec &spec) {
  MLIRContext *context = module.getContext();
  OpBuilder b(context);
  Type f = flat(b.getF32Type()), i = b.getIndexType();
  std::string name =
      "attention_" + std::to_string(spec.heads) + "_" +
      std::to_string(spec.kvHeads) + "_" + std::to_string(spec.d) + "_" +
      std::to_string(spec.dv) + "_" + floatName(spec.scale) +
      (spec.causal ? "_causal" : "") +
      (spec.window ? "_window" + std::to_string(spec.window) : "") +
      (spec.softCap != 0 ? "_cap" + floatName(spec.softCap) : "") +
      (spec.keepType
           ? "_keep" + std::to_string(spec.keepType.getIntOrFloatBitWidth())
           : "") +
      (spec.bias ? "_bias" : "") + (spec.single ? "_single" : "");
  Type keepType = flat(spec.keepType ? spec.keepType : b.getI64Type());
  SmallVector<Type> arguments = {f, f, f, keepType, f, f};
  arguments.append(12, i);
  bool made;
  func::FuncOp function = makeKernel(module, name, arguments, made);
  if (!made)
    return function;
  Block &body = function.getBody().front();
  b.setInsertionPointToStart(&body);
  Emitter e(b, function.getLoc());
  Location loc = e.loc;
  auto arg = [&](unsigned n) -> Value { return body.getArgument(n); };
  Value q = arg(0), kt = arg(1), v = arg(2), keep = arg(3), bias = arg(4),
        y = arg(5), sequence = arg(6), total = arg(7), tiles = arg(8),
        vBatch = arg(9), vHead = arg(10), vRow = arg(11);

  const int64_t group = spec.heads / spec.kvHeads, rowsPerTile = spec.tile();
  const int64_t scoreRegs = kKeyBlock / 16, valueRegs = (spec.dv + 15) / 16;
  Lanes values(e, spec.dv);
  auto memrefOf = [&](int64_t n) {
    return MemRefType::get({n}, b.getF32Type());
  };
  auto stack = [&](int64_t n) -> Value {
    return memref::AllocaOp::create(b, loc, memrefOf(n),
                                    b.getI64IntegerAttr(64));
  };
  Value probabilities = stack(rowsPerTile * kKeyBlock);
  Value sums = stack(rowsPerTile * valueRegs * 16);
  Value lanes = arith::ConstantOp::create(
      b, loc, b.getI32VectorAttr(llvm::to_vector(llvm::seq<int32_t>(0, 16))));
  auto asInt = [&](Value index) {
    return arith::IndexCastOp::create(b, loc, b.getI32Type(), index)
        .getResult();
  };
  auto div = [&](Value a, Value c) {
    return arith::DivUIOp::create(b, loc, a, c).getResult();
  };
  auto rem = [&](Value a, Value c) {
    return arith::RemUIOp::create(b, loc, a, c).getResult();
  };
  auto sub = [&](Value a, Value c) {
    return arith::SubIOp::create(b, loc, a, c).getResult();
  };
  auto min = [&](Value a, Value c) {
    return arith::MinSIOp::create(b, loc, a, c).getResult();
  };
  auto max = [&](Value a, Value c) {
    return arith::MaxSIOp::create(b, loc, a, c).getResult();
  };

  Value queryRows = e.mul(sequence, group);
  Value queryTiles =
      div(e.add(queryRows, rowsPerTile - 1), e.index(rowsPerTile));
  Value past = sub(total, sequence);

  e.loop(arg(16), arg(17), 1, [&](Value item) {
    Value queryTile = rem(item, queryTiles);
    Value both = div(item, queryTiles);
    Value kvHead = rem(both, e.index(spec.kvHeads));
    Value batch = div(both, e.index(spec.kvHeads));
    Value firstRow = e.mul(queryTile, rowsPerTile);
    // Row r of the tile: query r / group of the sequence, head r % group of the
    // group. Rows past the end repeat the last one.
    Emitter::Values query(rowsPerTile), head(rowsPerTile), qAt(rowsPerTile),
        limit(rowsPerTile);
    for (int64_t r = 0; r != rowsPerTile; ++r) {
      Value row = min(e.add(firstRow, r), e.add(queryRows, -1));
      query[r] = div(row, e.index(group));
      head[r] = e.add(e.mul(kvHead, group), rem(row, e.index(group)));
      Value line = e.add(e.mul(batch, sequence), query[r]);
      qAt[r] = e.add(e.mul(line, spec.heads * spec.d), e.mul(head[r], spec.d));
      // Keys [0, limit) are seen.
      limit[r] =
          spec.causal ? min(e.add(e.add(query[r], past), 1), total) : total;
    }
    Value last = limit[rowsPerTile - 1];
    Value firstBlock = e.index(0);
    if (spec.window) {
      Value begin =
          max(e.add(sub(limit[0], e.index(spec.window)), 0), e.index(0));
      firstBlock = e.mul(div(begin, e.index(kKeyBlock)), kKeyBlock);
    }
    Value keyBase =
        e.mul(e.mul(e.add(e.mul(batch, spec.kvHeads), kvHead), tiles),
              kKeyTile * spec.d);
    Value valueBase = e.add(e.mul(batch, vBatch), e.mul(kvHead, vHead));

    Value zero = e.splatFloat(0);
    for (int64_t n = 0; n != rowsPerTile * valueRegs; ++n)
      e.storeVector(zero, sums, e.index(16 * n));
    Emitter::Values state;
    for (int64_t r = 0; r != rowsPerTile; ++r)
      state.push_back(e.scalarFloat(-1e30f)); // running maximum
    for (int64_t r = 0; r != rowsPerTile; ++r)
      state.push_back(zero); // running sum of each lane
    state = e.loop(
        firstBlock, last, kKeyBlock, state, [&](Value block, ValueRange in) {
          // Scores.
          Value keyBlock = e.add(keyBase, e.mul(block, spec.d));
          Emitter::Values scores(rowsPerTile * scoreRegs, zero);
          scores = e.loop(
              e.index(0), e.index(spec.d), 1, scores,
              [&](Value j, ValueRange acc) {
                Emitter::Values k, next;
                Value at = e.add(keyBlock, e.mul(j, kKeyTile));
                for (int64_t t = 0; t != scoreRegs; ++t)
                  k.push_back(e.loadVector(kt, e.add(at, t * kKeyTile * spec.d),
                                           e.floats));
                for (int64_t r = 0; r != rowsPerTile; ++r) {
                  Value x = e.broadcast(e.load(q, e.add(qAt[r], j)), e.floats);
                  for (int64_t t = 0; t != scoreRegs; ++t)
                    next.push_back(e.fma(x, k[t], acc[r * scoreRegs + t]));
                }
                return next;
              });
          // Masks, then the softmax's running form.
          Emitter::Values out(2 * rowsPerTile);
          Value minusInfinity =
              e.splatFloat(-std::numeric_limits<float>::infinity());
          for (int64_t r = 0; r != rowsPerTile; ++r) {
            Emitter::Values s(scoreRegs);
            Value blockMax;
            for (int64_t t = 0; t != scoreRegs; ++t) {
              Value score = e.mulFloat(scores[r * scoreRegs + t],
                                       e.splatFloat(spec.scale));
              if (spec.softCap != 0) {
                Value ratio = e.mulFloat(score, e.splatFloat(1 / spec.softCap));
                score = e.mulFloat(math::TanhOp::create(b, loc, ratio),
                                   e.splatFloat(spec.softCap));
              }
              Value first = e.add(block, 16 * t);
              // Lanes that may be read: fewer than 16 at the end of the keys.
              Value position =
                  e.addInt(e.broadcast(asInt(first), e.words), lanes);
              Value seen = arith::CmpIOp::create(
                  b, loc, arith::CmpIPredicate::slt, position,
                  e.broadcast(asInt(limit[r]), e.words));
              if (spec.window) {
                Value begin = sub(limit[r], e.index(spec.window));
                seen = arith::AndIOp::create(
                    b, loc, seen,
                    arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge,
                                          position,
                                          e.broadcast(asInt(begin), e.words)));
              }
              if (spec.bias) {
                Value line =
                    e.add(e.add(e.mul(batch, arg(12)), e.mul(head[r], arg(13))),
                          e.mul(query[r], arg(14)));
                // A stride of 0 repeats one number; then the load of it is
                // broadcast.
                Value one = arith::CmpIOp::create(
                    b, loc, arith::CmpIPredicate::eq, arg(15), e.index(0));
                auto choice =
                    scf::IfOp::create(b, loc, TypeRange{e.floats}, one, true);
                {
                  OpBuilder::InsertionGuard guard(b);
                  b.setInsertionPointToStart(choice.thenBlock());
                  scf::YieldOp::create(
                      b, loc, e.broadcast(e.load(bias, line), e.floats));
                  b.setInsertionPointToStart(choice.elseBlock());
                  Value m = vector::MaskedLoadOp::create(
                      b, loc, e.floats, bias, e.add(line, first), seen, zero);
                  scf::YieldOp::create(b, loc, m);
                }
                score = e.addFloat(score, choice.getResult(0));
              }
              if (spec.keepType) {
                auto vector = VectorType::get({16}, spec.keepType);
                Value none =
                    arith::ConstantOp::create(b, loc, b.getZeroAttr(vector));
                Value m = vector::MaskedLoadOp::create(
                    b, loc, vector, keep, e.add(e.mul(batch, total), first),
                    seen, none);
                Value on = arith::CmpIOp::create(
                    b, loc, arith::CmpIPredicate::ne, m, none);
                seen = arith::AndIOp::create(b, loc, seen, on);
              }
              s[t] =
                  arith::SelectOp::create(b, loc, seen, score, minusInfinity);
              blockMax =
                  t ? arith::MaximumFOp::create(b, loc, blockMax, s[t],
                                                arith::FastMathFlags::nnan)
                          .getResult()
                    : s[t];
            }
            Value oldMax = in[r];
            Value newMax = arith::MaximumFOp::create(
                b, loc, oldMax, values.maxAcross(blockMax),
                arith::FastMathFlags::nnan);
            Value change = arith::SubFOp::create(b, loc, oldMax, newMax);
            Value factor = expNonPositive(e, e.broadcast(change, e.floats));
            Value shift = e.broadcast(newMax, e.floats);
            Value sum;
            for (int64_t t = 0; t != scoreRegs; ++t) {
              Value p =
                  expNonPositive(e, arith::SubFOp::create(b, loc, s[t], shift));
              e.storeVector(p, probabilities, e.index(r * kKeyBlock + 16 * t));
              sum = t ? e.addFloat(sum, p) : p;
            }
            out[r] = newMax;
            out[rowsPerTile + r] = e.fma(in[rowsPerTile + r], factor, sum);
            for (int64_t n = 0; n != valueRegs; ++n) {
              Value at = e.index((r * valueRegs + n) * 16);
              e.storeVector(
                  e.mulFloat(e.loadVector(sums, at, e.floats), factor), sums,
                  at);
            }
          }
          // Values: four registers of a head at a time.
          Value count = min(sub(last, block), e.index(kKeyBlock));
          for (int64_t n0 = 0; n0 < valueRegs; n0 += 4) {
            int64_t n1 = std::min(n0 + 4, valueRegs), width = n1 - n0;
            Emitter::Values acc;
            for (int64_t r = 0; r != rowsPerTile; ++r)
              for (int64_t n = n0; n != n1; ++n)
                acc.push_back(e.loadVector(
                    sums, e.index((r * valueRegs + n) * 16), e.floats));
            acc = e.loop(e.index(0), count, 1, acc, [&](Value j, ValueRange a) {
              Value at = e.add(valueBase, e.mul(e.add(block, j), vRow));
              Emitter::Values x, next;
              for (int64_t n = n0; n != n1; ++n) {
                bool partial = n == spec.dv / 16;
                x.push_back(values.load(v, e.add(at, 16 * n),
                                        partial ? values.mask(values.tail())
                                                : Value()));
              }
              for (int64_t r = 0; r != rowsPerTile; ++r) {
                Value p = e.broadcast(
                    e.load(probabilities, e.add(j, r * kKeyBlock)), e.floats);
                for (int64_t n = 0; n != width; ++n)
                  next.push_back(e.fma(p, x[n], a[r * width + n]));
              }
              return next;
            });
            for (int64_t r = 0; r != rowsPerTile; ++r)
              for (int64_t n = n0; n != n1; ++n)
                e.storeVector(acc[r * width + n - n0], sums,
                              e.index((r * valueRegs + n) * 16));
          }
          return out;
        });
    // Divide by the sums; a query that saw nothing gets zeros.
    for (int64_t r = 0; r != rowsPerTile; ++r) {
      Value sum = values.addAcross(state[rowsPerTile + r]);
      Value some = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, sum,
                                         e.scalarFloat(0));
      Value inverse = arith::DivFOp::create(b, loc, e.scalarFloat(1), sum);
      inverse =
          arith::SelectOp::create(b, loc, some, inverse, e.scalarFloat(0));
      Value factor = e.broadcast(inverse, e.floats);
      Value line = e.add(e.mul(batch, sequence), query[r]);
      Value at =
          e.add(e.mul(line, spec.heads * spec.dv), e.mul(head[r], spec.dv));
      for (int64_t n = 0; n != valueRegs; ++n) {
        bool partial = n == spec.dv / 16;
        Value result = e.mulFloat(
            e.loadVector(sums, e.index((r * valueRegs + n) * 16), e.floats),
            factor);
        values.store(result, y, e.add(at, 16 * n),
                     partial ? values.mask(values.tail()) : Value());
      }
    }
  });
  func::ReturnOp::create(b, e.loc);
  return function;
}
