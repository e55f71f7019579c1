//===- Apply.cpp - From a recipe to the layers of a model -------*- C++ -*-===//
//
// Part of the Quench project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "quench/Dialect/Quench/IR/Quench.h"
#include "quench/Recipe/Recipe.h"
#include "llvm/Support/GlobPattern.h"

using namespace mlir;
using namespace quench;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;

StringRef quench::layerRole(Operation *op) {
  if (isa<qn::EmbeddingOp>(op))
    return "embedding";
  auto linear = dyn_cast<qn::LinearOp>(op);
  return linear ? linear.getRole().value_or("other") : "other";
}

std::string quench::layerName(Operation *op) {
  std::string name;
  op->getLoc()->walk([&](Location loc) {
    auto named = dyn_cast<NameLoc>(loc);
    if (!named)
      return WalkResult::advance();
    name = named.getName().str();
    return WalkResult::interrupt();
  });
  return name;
}

static OpOperand &weightOf(Operation *op) { return op->getOpOperand(1); }

/// The leaf of a weight expression without codes of its own; null: the weight
/// is computed, or the model brings its codes.
static Operation *weightLeaf(Value value) {
  Operation *op = value.getDefiningOp();
  while (auto map = dyn_cast_or_null<qn::MapOp>(op))
    op = map.getInput().getDefiningOp();
  return isa_and_nonnull<qn::WeightOp, arith::ConstantOp>(op) ? op : nullptr;
}

static bool isFloatTensor(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getRank() == 2 && tensor.hasStaticShape() &&
         isa<FloatType>(tensor.getElementType());
}

namespace {
/// A rule that is ready to be asked.
struct Matcher {
  const RecipeRule *rule;
  SmallVector<StringRef> roles;
  std::optional<llvm::GlobPattern> name;
  unsigned decided = 0, shadowed = 0;

  bool matches(StringRef role, ArrayRef<std::string> names) const {
    bool roleFits = roles.empty();
    for (StringRef wanted : roles)
      roleFits |= wanted == role ||
                  (wanted == "linear" && role != "head" && role != "embedding");
    return roleFits &&
           (!name || llvm::any_of(names, [&](const std::string &text) {
             return name->match(text);
           }));
  }
};
} // namespace

static Expected<std::vector<Matcher>> makeMatchers(const Recipe &recipe) {
  std::vector<Matcher> matchers;
  for (const RecipeRule &rule : recipe.rules) {
    Matcher matcher{&rule, {}, std::nullopt};
    StringRef(rule.role).split(matcher.roles, ',', -1, /*KeepEmpty=*/false);
    for (StringRef &role : matcher.roles)
      role = role.trim();
    if (!rule.name.empty()) {
      Expected<llvm::GlobPattern> pattern =
          llvm::GlobPattern::create(rule.name);
      if (!pattern)
        return pattern.takeError();
      matcher.name = std::move(*pattern);
    }
    matchers.push_back(std::move(matcher));
  }
  return matchers;
}

Expected<LayerPlans> quench::planLayers(ModuleOp module, const Recipe &recipe) {
  Expected<std::vector<Matcher>> matchers = makeMatchers(recipe);
  if (!matchers)
    return matchers.takeError();
  LayerPlans plans;
  module.walk([&](Operation *op) {
    if (!isa<qn::LinearOp, qn::EmbeddingOp>(op))
      return;
    Value weight = weightOf(op).get();
    Operation *defining = weight.getDefiningOp();
    Operation *leaf = weightLeaf(weight);
    bool hasCodes =
        isa_and_nonnull<qn::AssembleOp, qn::QuantizeOp, qn::DequantizeOp>(
            defining);
    if (!leaf && !hasCodes)
      return;
    SmallVector<std::string, 2> names{layerName(op)};
    if (auto stored = dyn_cast_or_null<qn::WeightOp>(leaf))
      names.push_back(stored.getInitializer().str());
    LayerPlan plan;
    bool found = false;
    for (Matcher &matcher : *matchers) {
      if (!matcher.matches(layerRole(op), names))
        continue;
      ++(found ? matcher.shadowed : matcher.decided);
      if (found)
        continue;
      found = true;
      const RecipeRule &rule = *matcher.rule;
      if (rule.format != "keep" && leaf && isFloatTensor(weight.getType()))
        plan.format = rule.format;
      plan.keepCodes = rule.format != "keep";
      plan.quantizer = rule.quantizer;
      if (isa<qn::LinearOp>(op))
        plan.activations = rule.activations.value_or(recipe.activations);
    }
    plans.insert({op, plan});
  });
  for (auto [i, matcher] : llvm::enumerate(*matchers)) {
    if (matcher.decided || matcher.rule->optional)
      continue;
    std::string what =
        "'" + recipe.origin + "': rule " + std::to_string(i + 1) +
        " (role: " + (matcher.rule->role.empty() ? "any" : matcher.rule->role);
    if (!matcher.rule->name.empty())
      what += ", name: " + matcher.rule->name;
    what += matcher.shadowed
                ? ") decides about no layer: earlier rules match them all"
                : ") matches no layer of the model";
    llvm::MapVector<StringRef, unsigned> roles;
    for (auto &entry : plans)
      ++roles[layerRole(entry.first)];
    what += "; it has ";
    if (roles.empty())
      what += "none";
    for (auto [j, entry] : llvm::enumerate(roles))
      what += (j ? ", " : "") + std::to_string(entry.second) + " " +
              entry.first.str();
    return createStringError(what);
  }
  return plans;
}

/// Puts ops right behind the definition of a value.
static void insertAfter(OpBuilder &builder, Value value) {
  if (Operation *op = value.getDefiningOp())
    builder.setInsertionPointAfter(op);
  else
    builder.setInsertionPointToStart(value.getParentBlock());
}

LogicalResult quench::applyRecipe(ModuleOp module, const Recipe &recipe) {
  if (Error error = quantizeLayers(module, recipe))
    return module.emitError() << llvm::toString(std::move(error));
  return success();
}

Error quench::quantizeLayers(ModuleOp module, const Recipe &recipe) {
  Expected<LayerPlans> plans = planLayers(module, recipe);
  if (!plans)
    return plans.takeError();
  MLIRContext *context = module.getContext();
  context->loadDialect<qn::QuenchDialect>();
  OpBuilder builder(context);
  llvm::DenseMap<std::pair<Value, Attribute>, Value> weights;
  llvm::DenseMap<Value, Value> inputs;
  // Formats of recipes have been checked; this names one that has not.
  auto parse = [&](StringRef spec) -> Expected<qn::FormatAttr> {
    Expected<const Format *> format = getFormat(spec);
    if (!format)
      return format.takeError();
    return qn::FormatAttr::get(context, (*format)->spec());
  };

  auto quantize = [&](Value value, qn::FormatAttr format,
                      StringRef quantizer) -> Value {
    auto type = cast<RankedTensorType>(value.getType());
    insertAfter(builder, value);
    return qn::QuantizeOp::create(
        builder, value.getLoc(),
        qn::QTensorType::get(context, type.getShape(), format), value,
        quantizer);
  };

  for (auto &[op, plan] : *plans) {
    if (!plan.format.empty()) {
      Expected<qn::FormatAttr> format = parse(plan.format);
      if (!format)
        return format.takeError();
      OpOperand &weight = weightOf(op);
      auto key = std::make_pair(
          weight.get(), Attribute(builder.getArrayAttr(
                            {*format, builder.getStringAttr(plan.quantizer)})));
      Value &quantized = weights[key];
      if (!quantized)
        quantized = quantize(weight.get(), *format, plan.quantizer);
      weight.set(quantized);
    }
    if (plan.keepCodes)
      if (auto codes = weightOf(op).get().getDefiningOp<qn::AssembleOp>())
        codes->setAttr("quench.keep_codes", builder.getUnitAttr());
    if (plan.activations == Activations::Int8) {
      OpOperand &input = op->getOpOperand(0);
      if (!isa<RankedTensorType>(input.get().getType()))
        continue; // has a format already
      Expected<qn::FormatAttr> format = parse("int<8>");
      if (!format)
        return format.takeError();
      Value &quantized = inputs[input.get()];
      if (!quantized)
        quantized = quantize(input.get(), *format, "rtn");
      input.set(quantized);
    }
  }
  return Error::success();
}
