//! Expressions: the grammar of jinja2's parser, level by level.

use super::ast::{Arguments, Comparison, Constant, Expr, Operator};
use super::error::Outcome;
use super::lexer::Kind;
use super::parser::Parser;
use std::sync::Arc;

impl Parser {
    pub fn expression(&mut self) -> Outcome<Expr> {
        let mut value = self.or()?;
        while self.skip_name("if") {
            let test = Box::new(self.or()?);
            let otherwise = match self.skip_name("else") {
                true => Some(Box::new(self.expression()?)),
                false => None,
            };
            value = Expr::Conditional {
                test,
                then: Box::new(value),
                otherwise,
            };
        }
        Ok(value)
    }

    /// One expression, or several with commas between them, which make a tuple.
    pub fn tuple(&mut self, with_conditional: bool) -> Outcome<Expr> {
        self.tuple_of(with_conditional, false)
    }

    fn tuple_of(&mut self, with_conditional: bool, in_parentheses: bool) -> Outcome<Expr> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        while !self.is_tuple_end() {
            items.push(if with_conditional {
                self.expression()?
            } else {
                self.or()?
            });
            if !self.skip_op(",") {
                break;
            }
            is_tuple = true;
        }
        if !is_tuple && items.len() == 1 {
            return Ok(items.remove(0));
        }
        if !is_tuple && !in_parentheses {
            return self.error(format!("expected an expression, found {}", self.describe()));
        }
        Ok(Expr::Tuple(items))
    }

    fn is_tuple_end(&self) -> bool {
        matches!(self.kind(), Kind::VariableEnd | Kind::BlockEnd | Kind::Op(")")) || self.is_name("recursive")
    }

    fn or(&mut self) -> Outcome<Expr> {
        let mut left = self.and()?;
        while self.skip_name("or") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Outcome<Expr> {
        let mut left = self.not()?;
        while self.skip_name("and") {
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Outcome<Expr> {
        if self.skip_name("not") {
            return Ok(Expr::Not(Box::new(self.not()?)));
        }
        self.compare()
    }

    fn compare(&mut self) -> Outcome<Expr> {
        let first = self.sum()?;
        let mut others = Vec::new();
        loop {
            let comparison = match self.kind() {
                Kind::Op("==") => Comparison::Equal,
                Kind::Op("!=") => Comparison::NotEqual,
                Kind::Op("<") => Comparison::Less,
                Kind::Op("<=") => Comparison::LessOrEqual,
                Kind::Op(">") => Comparison::Greater,
                Kind::Op(">=") => Comparison::GreaterOrEqual,
                Kind::Name(name) if name == "in" => Comparison::In,
                Kind::Name(name) if name == "not" && matches!(self.look(), Kind::Name(next) if next == "in") => {
                    self.next();
                    Comparison::NotIn
                }
                _ => break,
            };
            self.next();
            others.push((comparison, self.sum()?));
        }
        Ok(match others.is_empty() {
            true => first,
            false => Expr::Compare(Box::new(first), others),
        })
    }

    fn sum(&mut self) -> Outcome<Expr> {
        let mut left = self.concat()?;
        loop {
            let operator = match self.kind() {
                Kind::Op("+") => Operator::Add,
                Kind::Op("-") => Operator::Subtract,
                _ => return Ok(left),
            };
            self.next();
            left = Expr::Binary(operator, Box::new(left), Box::new(self.concat()?));
        }
    }

    fn concat(&mut self) -> Outcome<Expr> {
        let mut parts = vec![self.product()?];
        while self.skip_op("~") {
            parts.push(self.product()?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => Expr::Concat(parts),
        })
    }

    fn product(&mut self) -> Outcome<Expr> {
        let mut left = self.power()?;
        loop {
            let operator = match self.kind() {
                Kind::Op("*") => Operator::Multiply,
                Kind::Op("/") => Operator::Divide,
                Kind::Op("//") => Operator::FloorDivide,
                Kind::Op("%") => Operator::Modulo,
                _ => return Ok(left),
            };
            self.next();
            left = Expr::Binary(operator, Box::new(left), Box::new(self.power()?));
        }
    }

    /// From left to right, unlike Python's.
    fn power(&mut self) -> Outcome<Expr> {
        let mut left = self.unary(true)?;
        while self.skip_op("**") {
            left = Expr::Binary(Operator::Power, Box::new(left), Box::new(self.unary(true)?));
        }
        Ok(left)
    }

    fn unary(&mut self, with_filters: bool) -> Outcome<Expr> {
        let value = if self.skip_op("-") {
            Expr::Negative(Box::new(self.unary(false)?))
        } else if self.skip_op("+") {
            Expr::Positive(Box::new(self.unary(false)?))
        } else {
            self.primary()?
        };
        let value = self.postfix(value)?;
        if with_filters {
            return self.filters(value);
        }
        Ok(value)
    }

    fn primary(&mut self) -> Outcome<Expr> {
        let constant = |constant| Ok(Expr::Constant(constant));
        match self.next() {
            Kind::Name(name) => match name.as_str() {
                "true" | "True" => constant(Constant::Bool(true)),
                "false" | "False" => constant(Constant::Bool(false)),
                "none" | "None" => constant(Constant::None),
                _ => Ok(Expr::Name(self.intern(&name))),
            },
            Kind::Str(mut text) => {
                while let Kind::Str(more) = self.kind() {
                    text.push_str(more);
                    self.next();
                }
                constant(Constant::Str(Arc::from(text)))
            }
            Kind::Int(number) => constant(Constant::Int(number)),
            Kind::Float(number) => constant(Constant::Float(number)),
            Kind::Op("(") => {
                let value = self.tuple_of(true, true)?;
                self.expect_op(")")?;
                Ok(value)
            }
            Kind::Op("[") => {
                let mut items = Vec::new();
                while !self.skip_op("]") {
                    items.push(self.expression()?);
                    if !self.is_op("]") {
                        self.expect_op(",")?;
                    }
                }
                Ok(Expr::List(items))
            }
            Kind::Op("{") => self.dict(),
            _ => {
                self.step_back();
                self.error(format!("unexpected {}", self.describe()))
            }
        }
    }

    fn dict(&mut self) -> Outcome<Expr> {
        let mut pairs = Vec::new();
        while !self.skip_op("}") {
            let key = self.expression()?;
            self.expect_op(":")?;
            pairs.push((key, self.expression()?));
            if !self.is_op("}") {
                self.expect_op(",")?;
            }
        }
        Ok(Expr::Dict(pairs))
    }

    fn postfix(&mut self, mut value: Expr) -> Outcome<Expr> {
        loop {
            value = if self.skip_op(".") {
                match self.next() {
                    Kind::Name(name) => Expr::Attribute(Box::new(value), Arc::from(name)),
                    Kind::Int(index) => Expr::Item(Box::new(value), Box::new(Expr::Constant(Constant::Int(index)))),
                    _ => return self.error("expected a name or a number behind \".\""),
                }
            } else if self.skip_op("[") {
                let index = self.index()?;
                Expr::Item(Box::new(value), Box::new(index))
            } else if self.is_op("(") {
                Expr::Call(Box::new(value), self.arguments()?)
            } else {
                return Ok(value);
            };
        }
    }

    fn index(&mut self) -> Outcome<Expr> {
        let mut items = Vec::new();
        while !self.skip_op("]") {
            if !items.is_empty() {
                self.expect_op(",")?;
            }
            items.push(self.slice()?);
        }
        Ok(match items.len() {
            1 => items.remove(0),
            _ => Expr::Tuple(items),
        })
    }

    fn slice(&mut self) -> Outcome<Expr> {
        let ends = |parser: &Self| parser.is_op("]") || parser.is_op(",");
        let mut parts = [None, None, None];
        if !self.is_op(":") {
            let value = self.expression()?;
            if !self.is_op(":") {
                return Ok(value);
            }
            parts[0] = Some(Box::new(value));
        }
        self.next();
        if !self.is_op(":") && !ends(self) {
            parts[1] = Some(Box::new(self.expression()?));
        }
        if self.skip_op(":") && !ends(self) {
            parts[2] = Some(Box::new(self.expression()?));
        }
        Ok(Expr::Slice(parts))
    }

    /// Filters, tests and calls behind a value.
    pub fn filters(&mut self, mut value: Expr) -> Outcome<Expr> {
        loop {
            value = if self.skip_op("|") {
                self.filter(Some(value))?
            } else if self.skip_name("is") {
                self.test(value)?
            } else if self.is_op("(") {
                Expr::Call(Box::new(value), self.arguments()?)
            } else {
                return Ok(value);
            };
        }
    }

    /// A filter's name and arguments.
    pub fn filter(&mut self, value: Option<Expr>) -> Outcome<Expr> {
        let name = self.dotted_name()?;
        let arguments = if self.is_op("(") {
            self.arguments()?
        } else {
            Arguments::default()
        };
        Ok(Expr::Filter(value.map(Box::new), name, arguments))
    }

    fn dotted_name(&mut self) -> Outcome<Arc<str>> {
        let mut name = self.expect_name()?;
        while self.skip_op(".") {
            name = Arc::from(format!("{name}.{}", self.expect_name()?));
        }
        Ok(name)
    }

    fn test(&mut self, value: Expr) -> Outcome<Expr> {
        let negated = self.skip_name("not");
        let name = self.dotted_name()?;
        let mut arguments = Arguments::default();
        let has_argument = match self.kind() {
            Kind::Name(name) if name == "is" => return self.error("tests cannot be chained with \"is\""),
            Kind::Name(name) => !matches!(name.as_str(), "else" | "or" | "and"),
            Kind::Str(_) | Kind::Int(_) | Kind::Float(_) | Kind::Op("[" | "{") => true,
            _ => false,
        };
        if self.is_op("(") {
            arguments = self.arguments()?;
        } else if has_argument {
            let argument = self.primary()?;
            arguments.positional.push(self.postfix(argument)?);
        }
        let test = Expr::Test(Box::new(value), name, arguments);
        Ok(if negated { Expr::Not(Box::new(test)) } else { test })
    }

    pub fn arguments(&mut self) -> Outcome<Arguments> {
        let mut arguments = Arguments::default();
        self.expect_op("(")?;
        while !self.skip_op(")") {
            let (named, star) = (!arguments.named.is_empty(), arguments.star.is_some());
            if arguments.double_star.is_some() {
                return self.error("no argument may follow one with \"**\"");
            }
            if self.skip_op("*") {
                if star {
                    return self.error("only one argument may have \"*\"");
                }
                arguments.star = Some(Box::new(self.expression()?));
            } else if self.skip_op("**") {
                arguments.double_star = Some(Box::new(self.expression()?));
            } else if matches!((self.kind(), self.look()), (Kind::Name(_), Kind::Op("="))) {
                let name = self.expect_name()?;
                self.next();
                arguments.named.push((name, self.expression()?));
            } else if named || star {
                return self.error("an argument without a name follows one with a name");
            } else {
                arguments.positional.push(self.expression()?);
            }
            if !self.is_op(")") {
                self.expect_op(",")?;
            }
        }
        Ok(arguments)
    }
}
