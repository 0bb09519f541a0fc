"""Give each unit of work a Postgres connection of its own, and close it when the work ends.

It is made for databases behind a session-mode pooler (Supabase's Supavisor, PgBouncer), where
the pooler is the pool and a second pool in the client holds connections that other processes
then lack. A session is one connection and one transaction:

    first statement  -> slot -> dial -> BEGIN, timeouts and the statement in one flight
    commit           -> COMMIT acknowledged; a read does not wait for that
    afterwards       -> Terminate -> the server's close is seen -> the slot is free

Read database.py first, which is what a caller uses. dbapi.py is what SQLAlchemy sees of a
connection, opening.py how one is got, wire.py how it is dialled and closed, slots.py the bound,
breaker.py and refusals.py what became of other attempts, url.py what a URL may say.
"""

from app.nopool.database import Database as Database
from app.nopool.database import Limits as Limits
from app.nopool.errors import Busy as Busy
from app.nopool.errors import Closed as Closed
from app.nopool.errors import CommitUnknown as CommitUnknown
from app.nopool.errors import DatabaseError as DatabaseError
from app.nopool.errors import DeadlineExceeded as DeadlineExceeded
from app.nopool.errors import Misconfigured as Misconfigured
from app.nopool.errors import NestedSession as NestedSession
from app.nopool.errors import PoolerFull as PoolerFull
from app.nopool.errors import SessionBusy as SessionBusy
from app.nopool.errors import SessionDone as SessionDone
from app.nopool.errors import SettingRefused as SettingRefused
from app.nopool.errors import Unavailable as Unavailable
from app.nopool.errors import describe as describe
from app.nopool.unit import Tx as Tx
from app.nopool.unit import Unit as Unit
from app.nopool.url import Target as Target
from app.nopool.url import parse as parse
