"""Look at the source: the owner's packages use the engine, and nothing beside it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.verify.report import Exemption

ROOT = Path(__file__).parent.parent.parent
# What may open connections, end sessions, and say what went wrong. Other tests see what these do.
ENGINE = ("app/nopool/", "app/localpg.py", "app/migrations.py", "app/verify/", "app/api/exchange.py", "app/__main__.py")
_ALLOW = re.compile(r"^[^\"']*#\s*verify:\s*allow\s+(NP\d\d)\s+(\S.*)")

# Names that open a connection or make a pool, by the rule that forbids them. A name is looked at with its module, however
# it was imported.
FORBIDDEN = {
    "NP03": (
        "psycopg.connect", "psycopg.Connection", "psycopg.AsyncConnection", "psycopg2", "asyncpg", "pg8000",
        "sqlalchemy.create_engine", "sqlalchemy.engine_from_config", "sqlalchemy.engine.create_engine",
        "sqlalchemy.ext.asyncio", "databases", "sqlmodel.create_engine", "socket.create_connection",
        "sqlalchemy.orm.sessionmaker", "sqlalchemy.orm.scoped_session",
        "app.nopool.wire", "app.nopool.dbapi", "app.nopool.opening", "app.nopool.slots", "app.nopool.breaker",
    ),
    "NP14": (
        "psycopg_pool", "sqlalchemy.pool", "sqlalchemy.create_pool_from_url", "asyncpg.create_pool",
        "psycopg2.pool", "sqlalchemy.QueuePool",
    ),
}  # fmt: skip

HOMES = ("app/main.py", "app/serve.py")  # of the one Database
RESPONSES = ("HTTPException", "ApiError", "JSONResponse", "Response", "PlainTextResponse", "FieldError")
_SESSIONS = re.compile(r"((sqlalchemy|sqlmodel)\.(.*\.)?)?Session|(.*\.)?DbSession")
_THREADS = {"Thread", "Timer", "submit", "map", "run_in_executor", "to_thread", "run_sync", "run_in_threadpool"}
_KEEPERS = {"append", "add_task", "create_task", "put", "setdefault"}
_RETRIES = ("tenacity", "backoff", "stamina", "retrying", "retry")  # libraries
_TEXTS = {"args", "orig", "diag", "statement", "params"}  # of an error: what the server said, and was told
_CODES = {"sqlstate", "constraint_name"}  # of those: what is no text
_ENDS = re.compile(  # whole statements: begin and end may be columns
    r"\s*(?:commit|rollback|abort|begin|end|(?:start|prepare)\s+transaction)"
    r"(?:\s+(?:'|(?:work|transaction|and|prepared|isolation|read)\b).*)?\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)
_SQL = re.compile(r"(sqlalchemy\.(.*\.)?)?text|.*\b(execute|exec_driver_sql)")
_SET = re.compile(
    r"^\s*set\s+(?:session\s+)?(?!local\b|transaction\b)[\w.]+\s*(?:=|\bto\b)|^\s*set\s+(?:session\s+)?(?:role|authorization)\b"
    r"|set_config\([^)]*,\s*false\s*\)|^\s*discard\s+\w+\s*$|^\s*listen\s+\w+\s*;?\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Finding:
    """What breaks a rule, and where."""

    rule: str
    where: str
    what: str


def sources() -> Iterator[tuple[str, str]]:
    """Yield name and text of all modules of the project that are no tests."""
    for path in sorted([*ROOT.glob("app/**/*.py"), *ROOT.glob("migrations/**/*.py")]):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def _allowed(source: str, name: str) -> dict[int, Exemption]:
    """Return what the owner has allowed in a module, by line."""
    matches = ((number, _ALLOW.search(line)) for number, line in enumerate(source.splitlines(), 1))
    return {number: Exemption(match[1], f"{name}:{number}", match[2]) for number, match in matches if match}


def exemptions() -> list[Exemption]:
    """Return what the owner has allowed."""
    return [one for name, source in sources() for one in _allowed(source, name).values()]


def findings() -> list[Finding]:
    """Return all that breaks a rule and is not allowed."""
    return [finding for name, source in sources() for finding in check(source, name)]


def check(source: str, name: str) -> list[Finding]:
    """Look at one module."""
    allowed = {(one.rule, line) for number, one in _allowed(source, name).items() for line in (number, number + 1)}
    return [found for found, line in _Module(ast.parse(source), name).look() if (found.rule, line) not in allowed]


class _Module:
    """One module: what its names mean, and what it does with them."""

    def __init__(self, tree: ast.Module, name: str) -> None:
        self._tree = tree
        self._name = name
        self._owner = not name.startswith(ENGINE)
        self._databases = 0
        self._means: dict[str, str] = {}  # local names, by what they were imported as
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.split(".")[0]
                    self._means[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    self._means[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def look(self) -> Iterator[tuple[Finding, int]]:
        """Yield each finding with its line."""
        for node in ast.walk(self._tree):
            for rule, what in self._of(node):
                line = getattr(node, "lineno", 0)
                yield Finding(rule, f"{self._name}:{line}", what), line

    def _of(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        checks = (self._imports, self._beside, self._kept, self._repeated, self._ended, self._answers, self._logs)
        for check in checks if self._owner else ():
            yield from check(node)
        if isinstance(node, ast.Call) and self._dotted(node.func) == "sqlalchemy.create_engine":
            pools = [self._dotted(keyword.value) for keyword in node.keywords if keyword.arg == "poolclass"]
            if pools != ["sqlalchemy.pool.NullPool"]:
                yield "NP14", "an engine without NullPool"

    def _imports(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        """Connections and pools beside the engine, however they are named."""
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [self._dotted(node)]
        for name in names:
            for rule, forbidden in FORBIDDEN.items():
                if any(f"{name}.".startswith(f"{one}.") for one in forbidden):
                    yield rule, f"{name} opens connections beside the engine"

    def _beside(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        """A second Database, and the ends of transactions that are not the session's."""
        if not isinstance(node, ast.Call):
            return
        if self._dotted(node.func) in ("app.nopool.Database", "app.nopool.database.Database"):
            self._databases += 1
            if self._databases > (self._name in HOMES):
                yield "NP03", "a second Database, with a bound of its own"
        if not _SQL.fullmatch(self._dotted(node.func)) or not node.args:
            return
        if isinstance(node.args[0], (ast.Constant, ast.JoinedStr, ast.BinOp)):
            first = next((leaf.value for leaf in ast.walk(node.args[0]) if isinstance(leaf, ast.Constant)), None)
            if isinstance(first, str) and _ENDS.fullmatch(first):
                yield "NP16", "a statement that begins or ends a transaction"
            if isinstance(first, str) and _SET.search(first):
                yield "NP16", "a setting that outlives the transaction"

    def _kept(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        """Sessions that outlive the function, or the block, that was given them."""
        value = (node in self._tree.body and getattr(node, "value", None)) or ast.Pass()
        if any(_calls(inner, "session") or _calls(inner, "new_session") for inner in ast.walk(value)):
            yield "NP15", "a session of the whole module"
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return
        given = {arg.arg for arg in _parameters(node) if self._is_session(arg.annotation)}
        if given and isinstance(node, ast.AsyncFunctionDef):
            yield "NP03", "a session in the event loop, on which the end of every session depends"
        blocks = [(block, _bound(block)) for block in ast.walk(node) if isinstance(block, ast.With)]
        opened = {name for _, names in blocks for name in names}
        for block, names in blocks:
            yield from _behind(node, block, names)
        inside = [one for one in ast.walk(node) if isinstance(one, ast.FunctionDef) and one is not node]
        held = given | opened | {one.name for one in inside if _holds(one, given | opened)}
        outer = {name for one in ast.walk(node) if isinstance(one, (ast.Global, ast.Nonlocal)) for name in one.names}
        for inner in ast.walk(node):
            if isinstance(inner, (ast.Assign, ast.AnnAssign)) and inner.value and _holds(inner.value, given | opened):
                # A class may have its caller's session, which ends with the request.
                own = "self." if _holds(inner.value, given) else "."
                targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                targets = [target for target in targets if not ast.unparse(target).startswith(own)]
                if any(isinstance(one, (ast.Attribute, ast.Subscript)) or ast.unparse(one) in outer for one in targets):
                    yield "NP15", f"{ast.unparse(inner.value)} is kept"
            if isinstance(inner, ast.Call):
                func, passed = inner.func, [*inner.args, *(keyword.value for keyword in inner.keywords)]
                called = ast.unparse(func)
                name = (called if isinstance(func, ast.Attribute) else self._means.get(called, "")).split(".")[-1]
                if name in _THREADS | {"add_task"}:  # which may be given a method of the session
                    passed += [one.value for one in passed if isinstance(one, ast.Attribute)]
                if name in _THREADS | _KEEPERS and any(_holds(one, held) for one in passed):
                    yield "NP03" if name in _THREADS else "NP15", f"{name} has the session when the request has ended"

    def _repeated(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        """What is done again because it failed, but for run_with_retry."""
        if isinstance(node, (ast.For, ast.While)) and self._name not in HOMES:  # they wait for the database to come
            for one in (one for one in node.body if isinstance(one, ast.Try)):
                done = ast.Module([*one.body, *one.orelse], [])
                each = _stored(node) - _stored(one)  # another thing each time
                failures = [handler for handler in one.handlers if not any(map(_leaves, handler.body))]
                # Another key after a duplicate is another thing too.
                again = any(_last(handler.type or handler) != "IntegrityError" for handler in failures)
                if again and not any(_mentions(done, each)) and any(map(_leaves, done.body)) and _asks(done):
                    yield "NP29", "a loop that repeats until it succeeds: use run_with_retry"
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            libraries = {self._dotted(getattr(one, "func", one)).split(".")[0] for one in node.decorator_list}
            if libraries & set(_RETRIES) and _asks(node):
                yield "NP29", "a library that repeats: use run_with_retry"

    def _ended(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        """Ends of a session that nobody looks at, and sessions that nobody ends."""
        if isinstance(node, ast.Try):
            commits = any(_calls(inner, "commit") for part in node.body for inner in ast.walk(part))
            silent = [one for one in node.handlers if not any(isinstance(inner, ast.Raise) for inner in ast.walk(one))]
            if commits and silent:
                yield "NP19", "a COMMIT whose error is swallowed"
        if isinstance(node, ast.With) and any("suppress(" in ast.unparse(item) for item in node.items):
            if any(_calls(inner, "commit") for inner in ast.walk(node)):
                yield "NP19", "a COMMIT whose error is swallowed"
        if isinstance(node, (ast.Assign, ast.Expr, ast.Return)) and isinstance(node.value, ast.Call):
            call = node.value
            if _calls(call, "new_session") or (_calls(call, "session") and not call.args and self._is_db(call)):
                yield "NP04", "a session without with, which nobody ends"

    def _is_db(self, node: ast.AST) -> bool:
        func = node.func if isinstance(node, ast.Call) else None
        return isinstance(func, ast.Attribute) and self._dotted(func.value).split(".")[-1] in ("db", "database")

    def _is_session(self, annotation: ast.AST | None) -> bool:
        if annotation is None or "Callable" in ast.unparse(annotation):  # which gets a session of its own
            return False
        return any(_SESSIONS.fullmatch(self._dotted(leaf)) for leaf in ast.walk(annotation))

    def _answers(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        """The text of an error in a response."""
        errors: set[str] = set()
        if isinstance(node, ast.ExceptHandler):
            errors = {node.name or ""}
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return
        elif any("exception_handler" in ast.unparse(one) for one in node.decorator_list):
            errors = {arg.arg for arg in _parameters(node)[1:]}
        # The name of an error means it in its handler alone; a variable that has its text goes on behind it.
        handlers = [(one, {one.name or ""}) for one in ast.walk(node) if isinstance(one, ast.ExceptHandler)]
        texts: set[str] = set()
        for part, names in [(node, errors), *handlers] * 2:  # one variable may be made of another
            for one in ast.walk(part):
                if isinstance(one, (ast.Assign, ast.AnnAssign)) and one.value and _tells(one.value, names, texts):
                    texts |= _stored(one)
        for one in ast.walk(node):
            call = isinstance(one, ast.Call) and self._dotted(one.func).split(".")[-1] in RESPONSES
            values = list(ast.iter_child_nodes(one)) if call or isinstance(one, (ast.Return, ast.Yield)) else []
            if any(_tells(value, errors, texts, whole=call) for value in values):
                yield "NP24", "the text of an error in a response"

    def _logs(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        """Errors as they are, and URLs, in the log."""
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            return
        if self._dotted(node.func.value).split(".")[-1] not in ("log", "logger", "logging"):
            return
        if node.func.attr == "exception" or any(keyword.arg == "exc_info" for keyword in node.keywords):
            yield "NP24", "an error with its text in the log: use describe"
        for leaf in ast.walk(node):
            if isinstance(leaf, ast.Attribute) and leaf.attr.endswith(("database_url", "get_secret_value")):
                yield "NP24", "a database URL in the log"

    def _dotted(self, node: ast.AST) -> str:
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        parts.append(self._means.get(node.id, node.id) if isinstance(node, ast.Name) else "")
        return ".".join(reversed(parts))


def _last(node: ast.AST) -> str:
    return ast.unparse(node).split(".")[-1]


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.arg]:
    return [*node.args.args, *node.args.kwonlyargs]


def _bound(block: ast.With) -> set[str]:
    """Return the names of the sessions that a block opens."""
    opened = [item.optional_vars for item in block.items if _calls(item.context_expr, "session")]
    return {name.id for name in opened if isinstance(name, ast.Name)}


def _stored(node: ast.AST) -> set[str]:
    return {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name) and isinstance(leaf.ctx, ast.Store)}


def _mentions(node: ast.AST, names: set[str]) -> Iterator[ast.Name]:
    """Yield the places of names, but for functions and comprehensions in which they mean something else."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or hasattr(node, "generators"):
        names = names - {leaf.arg for leaf in ast.walk(node) if isinstance(leaf, ast.arg)} - _stored(node)
    if isinstance(node, ast.Name) and node.id in names:
        yield node
    for one in ast.iter_child_nodes(node):
        yield from _mentions(one, names)


def _holds(node: ast.AST, names: set[str]) -> bool:
    """Report whether a value holds one of the names, itself or to be called later, rather than what a call made of it."""
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        return any(_mentions(node, names))
    if isinstance(node, ast.Call):
        parts = [arg.value if isinstance(arg, ast.Attribute) else arg for arg in node.args]
        return _last(node.func) == "partial" and any(_holds(part, names) for part in parts)
    if isinstance(node, (ast.Name, ast.Attribute)):
        return isinstance(node, ast.Name) and node.id in names
    return any(_holds(one, names) for one in ast.iter_child_nodes(node))


def _behind(
    function: ast.FunctionDef | ast.AsyncFunctionDef, block: ast.With, names: set[str]
) -> Iterator[tuple[str, str]]:
    """Uses of a session behind the block that ends it."""
    manager = any("contextmanager" in ast.unparse(one) for one in function.decorator_list)
    for inner in ast.walk(block):
        if isinstance(inner, ast.Return) and inner.value and _holds(inner.value, names):
            yield "NP15", "a session is returned from the block that ends it"
        if isinstance(inner, ast.Yield) and inner.value and _holds(inner.value, names) and not manager:
            yield "NP05", "a dependency that commits when the response has left: ask for DbSession"
    names = names - {arg.arg for arg in _parameters(function)}  # the caller's, where the block is not entered
    later: list[ast.Name] = []
    for part in (value for one in ast.walk(function) for _, value in ast.iter_fields(one) if isinstance(value, list)):
        for n, one in enumerate(part):
            if isinstance(one, ast.stmt) and block in ast.walk(one):
                later += [leaf for behind in part[n + 1 :] for leaf in _mentions(behind, names)]
    if later and not _leaves(block) and isinstance(min(later, key=lambda leaf: leaf.lineno).ctx, ast.Load):
        yield "NP15", "a session is used behind the block that ends it"


def _leaves(node: ast.AST) -> bool:
    return isinstance(node, (ast.Return, ast.Break, ast.Raise)) or (
        isinstance(node, ast.With) and any(map(_leaves, node.body))
    )


def _asks(node: ast.AST) -> bool:
    """Report whether a session or the database is asked for something; a session made here may be one of HTTP."""
    names = {"get_session", "db", "database", "own"} | ({"session"} - _stored(node))
    return any(getattr(leaf, "id", getattr(leaf, "attr", "")) in names for leaf in ast.walk(node))


def _tells(node: ast.AST, errors: set[str], texts: set[str], whole: bool = False) -> bool:
    """Report whether an expression has the text of an error in it, or, if it is the whole that counts, the error."""
    if isinstance(node, ast.Name):
        return node.id in texts or (whole and node.id in errors)
    if isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id in errors:
            return node.attr in _TEXTS
        return node.attr not in _CODES and _tells(node.value, errors, texts)
    if isinstance(node, ast.Call):  # what another function makes of an error is another thing
        name = _last(node.func)
        if name in ("isinstance", "type", "getattr", "format_exc"):
            return name == "format_exc"
        whole = name in ("str", "repr", "format")
    whole = whole or isinstance(node, (ast.FormattedValue, ast.BinOp))
    parts = [] if isinstance(node, ast.Compare) else ast.iter_child_nodes(node)
    return any(_tells(one, errors, texts, whole) for one in parts)


def _calls(node: ast.AST, method: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method
