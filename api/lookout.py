"""What was noted of the experiments, read now and then, so that no scrape waits for the database."""

from api.watched import Noted
from storage.database import Database
from storage.standings import last_verification, newest_judgements


class Lookout:
    """Holds the newest notes; those of before while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.noted = Noted()

    async def look(self) -> None:
        """Read what the last passes and the last `verify` wrote down: a row a variant."""
        async with self._database.reading() as connection:
            self.noted = Noted(
                judgements=tuple(await newest_judgements(connection)),
                verification=await last_verification(connection),
            )
