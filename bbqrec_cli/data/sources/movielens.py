"""MovieLens (Harper and Konstan, ACM TiiS 2015) in its three layouts: u.data, ratings.dat and ratings.csv."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from sys import intern
from typing import Any

from bbqrec_cli.data.download import download, published_md5
from bbqrec_cli.data.sources.archives import Archive
from bbqrec_cli.data.sources.base import Interactions, Items
from bbqrec_cli.data.sources.files import as_id, fields_of, read_items
from bbqrec_cli.data.sources.log import Log
from bbqrec_cli.data.sources.options.movielens import MovieLensOptions
from bbqrec_cli.data.sources.paths import download_folder, only_path
from bbqrec_cli.data.sources.pictures import find_pictures, pictures_of
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.progress import Progress, counted

SITE = "https://files.grouplens.org/datasets/movielens"
MD5 = {
    "100k": "0e33842e24a9c977be4e0107933c0723",
    "1m": "c4d9eecfca2ab87c1945afe126590906",
    "10m": "ce571fd55effeba0271552578f2648bd",
    "20m": "cd245b17a1ae2cc31bb14903e1204af3",
    "25m": "6b51fb2759a8657d3bfcbfc42b592ada",
    "32m": "d472be332d4daa821edc399621853b57",
}
"""Set -> checksum that GroupLens publishes; that of the sets that change is fetched with them."""
LAYOUTS = {"u.data": "\t", "ratings.dat": "::", "ratings.csv": ","}
"""File of the ratings -> what separates user, movie, rating and seconds."""
HEADER = "userId,movieId,rating,timestamp"
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""The flags of u.item, in their order."""
NO_GENRE = ("", "unknown", "(no genres listed)")
TAGS = 10
"""Tags kept per movie: those that most users gave."""
_TEXT = ("utf-8-sig", "latin-1")
_EXAMPLE = "bbqrec prepare movielens ml-1m.zip, or --download 1m"
_ARTICLE = re.compile(r"(a\.k\.a\. )?(.*\S), (The|An?|L[aeo]s?|L'|Un[ae]?|Il|El|De[rnt]?|Die|Das|Eine?)", re.IGNORECASE)


class MovieLens:
    """PATH: the folder or the zip of a set.

    Raises:
        UsageError: not one path.
        MissingFileError: no ratings in it.
    """

    minimum = 0

    @staticmethod
    def fetch(paths: list[Path], options: MovieLensOptions, progress: Progress) -> list[Path]:
        """The paths after --download. Raises: those of `download.download`."""
        if not options.download:
            if options.mirror:
                raise UsageError("--mirror has no effect without --download", "add --download 1m, or leave it out")
            return paths
        name = f"ml-{options.download}.zip"
        url = f"{(options.mirror or SITE).rstrip('/')}/{name}"
        target = download_folder(paths, _EXAMPLE) / name
        known = MD5.get(options.download) or ("" if target.exists() else published_md5(url))
        return [download(url, target, md5=known, progress=progress)]

    def __init__(self, paths: list[Path], options: MovieLensOptions, *, seed: int, progress: Progress) -> None:
        path = only_path(paths, "movielens", _EXAMPLE)
        path = path.parent if path.name in LAYOUTS else path
        self._archive, self._options, self._seed, self._progress = Archive(path), options, seed, progress
        found = next((name for name in LAYOUTS if self._archive.has(name)), None)
        if found is None:
            raise MissingFileError(f"{path}: no {', '.join(LAYOUTS)} in it", _EXAMPLE)
        self._ratings = found
        self.images = options.images or find_pictures(path)
        self.files = self._archive.files(found, *([] if options.items else self._item_files()))
        self.files += [options.items] if options.items else []

    def _item_files(self) -> tuple[str, ...]:
        csvs = ("movies.csv", "tags.csv", "links.csv")
        return {"u.data": ("u.item",), "ratings.dat": ("movies.dat", "tags.dat"), "ratings.csv": csvs}[self._ratings]

    def interactions(self) -> Interactions:
        """Each user's ratings by time.

        Raises:
            DataError: a malformed line, an empty file.
        """
        log = Log(self._options.min_rating)
        self._progress.log(f"{self._archive.path.name}: MovieLens, the layout of {self._ratings}")
        with self._progress.task("ratings", None) as task:
            for row in counted(self._rows(), task):
                log.add(*row)
        if not log:
            what = f"no ratings of {self._options.min_rating:g} or better in it" if log.low else "no ratings in it"
            raise DataError(f"{self._archive.path / self._ratings}: {what}", "lower --min-rating, or give another file")
        return log.by_user(per_second=1, ties=self._options.ties, seed=self._seed)

    def _rows(self) -> Iterator[tuple[str, str, int, float]]:
        """(user, movie, seconds, rating) of each line."""
        between = LAYOUTS[self._ratings]
        for number, line in self._archive.lines(self._ratings):
            if number == 1 and between == ",":
                if line.replace('"', "") != HEADER:
                    what = f"{self._archive.where(self._ratings, 1)}: starts with {line[:60]!r}, not with {HEADER}"
                    raise DataError(what, "bbqrec prepare table reads tables with other columns")
                continue
            try:
                user, movie, rated, seconds = line.split(between)
                user, movie, rating, time = as_id(user), as_id(movie), float(rated), int(seconds)
            except ValueError:
                user, movie, rating, time = "", "", 0.0, 0
            if not (user and movie and 0 <= time < 1 << 62 and math.isfinite(rating)):
                what = f"{self._archive.where(self._ratings, number)}: {line[:60]!r}; user, movie, rating and seconds"
                raise DataError(f"{what} are needed, separated by {between!r}", "download or copy it again")
            yield user, movie, time, rating

    def items(self, item_ids: list[str]) -> Items:
        """Title, year, genres, other sites' ids, and what users call it, which is in no text unless it is asked for: it
        may be said at any time, by those whose interactions are held out, too. Pictures from a folder."""
        fields: dict[str, list[str]] = {}
        if self._options.items:
            known = read_items(self._options.items, id_column=None)
            fields = fields_of(item_ids, known, self._options.items, self._progress)
        elif self._archive.has(self._item_files()[0]):
            file = self._archive.path / self._item_files()[0]
            fields = fields_of(item_ids, self._movies(), file, self._progress)
        else:
            self._progress.warn(f"{self._archive.path}: no {self._item_files()[0]} in it, so no titles")
        return Items(fields=fields, images=pictures_of(self.images, item_ids, self._progress))

    def _movies(self) -> dict[str, dict[str, Any]]:
        """Movie -> its fields."""
        name, *others = self._item_files()
        found: dict[str, dict[str, Any]] = {}
        for number, row in self._cells(name):
            movie, title, genres = self._movie(name, number, row)
            if movie in found:
                where = self._archive.where(name, number)
                raise DataError(f"{where}: movie {movie!r} appears twice", "download or copy it again")
            plain, year = title_and_year(title)
            found[movie] = {"title": plain, "year": year, "genres": [each for each in genres if each not in NO_GENRE]}
        for other in filter(self._archive.has, others):
            if other == "links.csv":
                for number, row in self._cells(other):
                    movie, imdb, tmdb = self._wide(other, number, row, 3)
                    found.get(as_id(movie), {}).update(imdb_id=f"tt{imdb}" if imdb else "", tmdb_id=tmdb)
            else:
                for movie, tags in self._tags(other).items():
                    found.get(movie, {}).update(user_tags=tags)
        return found

    def _movie(self, name: str, number: int, row: list[str]) -> tuple[str, str, list[str]]:
        """(movie, title, genres) of a row."""
        if name == "u.item":
            flags = self._wide(name, number, row, 5 + len(GENRES))[5:]
            return as_id(row[0]), row[1], [genre for genre, flag in zip(GENRES, flags, strict=True) if flag == "1"]
        movie, title, genres = self._wide(name, number, row, 3)
        return as_id(movie), title, genres.split("|")

    def _tags(self, name: str) -> dict[str, list[str]]:
        """Movie -> the TAGS tags that most users gave it, whatever their case."""
        given: set[tuple[str, str, str]] = set()
        for number, row in self._cells(name):
            user, movie, tag, _ = self._wide(name, number, row, 4)
            given.add((intern(as_id(movie)), intern(as_id(tag.casefold())), intern(as_id(user))))
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for movie, tag, _ in given:
            counts[movie][tag] += 1
        ranked = {movie: sorted(tags, key=lambda tag: (-tags[tag], tag)) for movie, tags in counts.items()}
        return {movie: tags[:TAGS] for movie, tags in ranked.items()}

    def _cells(self, name: str) -> Iterator[tuple[int, list[str]]]:
        """(line, cells) of a file of items, the header of a .csv left out."""
        lines = self._archive.lines(name, encodings=_TEXT)
        if name.endswith(".csv"):
            reader = csv.reader((f"{line}\n" for _, line in lines), strict=True)
            try:
                yield from ((reader.line_num, row) for place, row in enumerate(reader) if place)
            except csv.Error as error:
                where = self._archive.where(name, reader.line_num)
                raise DataError(f"{where}: not a readable table ({error})", "download or copy it again") from error
        elif name == "u.item":
            yield from ((number, line.split("|")) for number, line in lines)
        else:
            for number, line in lines:  # a title or a tag may hold the separator
                cells, last = line.split("::"), 1 if name == "movies.dat" else 2
                yield number, [*cells[:last], "::".join(cells[last:-1]), cells[-1]]

    def _wide(self, name: str, number: int, row: list[str], width: int) -> list[str]:
        if len(row) != width:
            what = f"{self._archive.where(name, number)}: {len(row)} columns; {width} are needed"
            raise DataError(what, "download or copy it again")
        return row


def title_and_year(text: str) -> tuple[str, str]:
    """`Matrix, The (1999)` -> The Matrix, 1999; the year is '' where there is none."""
    found = re.fullmatch(r"(.*\S)\s*\((\d{4})(?:[-–]\d{0,4})?\)\s*", text.strip())
    name, year = (found[1], found[2]) if found else (text.strip(), "")
    # Other names stand in brackets: `City of Lost Children, The (Cité des enfants perdus, La)`.
    return re.sub(r"^[^(]*[^(\s]|(?<=\()[^()]+(?=\))", lambda part: _in_order(part[0]), name), year


def _in_order(name: str) -> str:
    """`Matrix, The` -> The Matrix."""
    found = _ARTICLE.fullmatch(name)
    if not found:
        return name
    also, rest, article = found.groups()
    return (also or "") + article + ("" if article.endswith("'") else " ") + rest
