/*
 * Many pages in one go. `run` is one pass over an array of ESSAs: what essa.perform does to a page without flags, for as many
 * elements in a row as need no more than that.
 *
 * Rules:
 * - No transition stands here: the tables of tables.py come in as bytes.
 * - An element that needs more (flags, an exception, a list that is now full) ends the pass.
 *   What went before is done, it and what comes after are not.
 * - A block's states come first, then what hangs on some of them: most pages' places are of no
 *   interest, and not worth a line of the cache each.
 *
 * `free` drains a release list whose entries alone hold their slots.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum {
	STATE_MASK = 0x0f,
	CONTENT_MASK = 0x03,	/* 0 is resident */
	RELEASES = 0x20,
	KEY_CHANGED = 0x02,
	KIND_SHIFT = 8,
	KIND_MASK = 0x7f,
	MOVES = 15,		/* the bit of an entry that gives a resident page another state */
	BLOCK = 1024,
	ORC_COUNT = 7,
	ENTRY_SIZE = 3,		/* pfn, slot, generation */
};

enum {
	ORCS, PFNS, RESULT, COUNTS, STATES, KEYS, LOCATION, KINDS, GENERATIONS, ENTRIES,
	TABLE, BUFFERS
};

static const struct {
	const char *name;
	int writable;
	Py_ssize_t size;	/* of one item */
	Py_ssize_t at_least;	/* items */
} expected[BUFFERS] = {
	[ORCS] = { "orcs", 0, 1, 0 },
	[PFNS] = { "pfns", 0, 4, 0 },
	[RESULT] = { "result", 1, 1, 0 },
	[COUNTS] = { "counts", 1, 8, ORC_COUNT },
	[STATES] = { "states", 1, 1, 0 },
	[KEYS] = { "keys", 0, 1, 0 },
	[LOCATION] = { "location", 1, 4, 0 },
	[KINDS] = { "kinds", 1, 1, 1 },
	[GENERATIONS] = { "generations", 0, 2, 1 },
	[ENTRIES] = { "entries", 1, 4, ENTRY_SIZE },
	[TABLE] = { "table", 0, 2, 256 },
};

struct pass {
	const uint8_t *orcs, *keys;
	const char *pfns;	/* off the wire, so perhaps not aligned */
	const uint16_t *generations, *table;
	uint8_t *result, *states, *kinds;
	uint32_t *location, *entries;
	uint64_t *counts;
	size_t length, page_count, frame_end, slot_end, room;
	int keeps_slot;		/* until the entry is processed */
};

/* What is left to do for some pages of a block, in the order of the elements. */
struct rest {
	size_t released, moved;
	uint32_t release[BLOCK];	/* pages that give up their slot, if they hold one */
	uint32_t move[BLOCK];		/* resident pages in another state */
};

/*
 * The first element not executed, at most end.
 *
 * No branch depends on a page's state: states are random to the processor, and a branch that it
 * guesses wrong costs as much as three elements.
 */
static size_t transitions(const struct pass *p, size_t index, size_t end, struct rest *rest)
{
	/* Bytes may alias anything, so the compiler has to be told that these do not. */
	const uint8_t *restrict orcs = p->orcs, *restrict keys = p->keys;
	const char *restrict pfns = p->pfns;
	const uint16_t *restrict table = p->table;
	const uint32_t *location = p->location;
	uint8_t *restrict result = p->result, *restrict states = p->states;
	uint64_t *restrict counts = p->counts;
	uint32_t *restrict release = rest->release, *restrict move = rest->move;
	const size_t page_count = p->page_count;
	size_t released = 0, moved = 0;

	for (; index < end; index++) {
		uint8_t orc = orcs[index], before;
		uint32_t pfn;
		uint16_t entry;
		uint32_t releases, moves;

		memcpy(&pfn, pfns + index * sizeof(pfn), sizeof(pfn));
		if (orc >= ORC_COUNT || pfn >= page_count)
			break;
		before = states[pfn];
		if (before > STATE_MASK)
			break;
		entry = table[(keys[pfn] & KEY_CHANGED) << 6 | orc << 4 | before];
		states[pfn] = entry & STATE_MASK;
		result[index] = before;
		counts[orc]++;
		releases = entry / RELEASES & 1;
		moves = entry >> MOVES;
		release[released] = pfn;
		released += releases;
		move[moved] = pfn;
		moved += moves;
		__builtin_prefetch(&location[pfn & -(releases | moves)], 1);
	}
	rest->released = released;
	rest->moved = moved;
	return index;
}

/* The kinds of the frames of the resident pages: those of their last states. */
static int note_kinds(const struct pass *p, const struct rest *rest)
{
	for (size_t i = 0; i < rest->moved; i++) {
		uint32_t pfn = rest->move[i], frame = p->location[pfn];

		if (frame >= p->frame_end)
			return -1;
		p->kinds[frame] = p->table[(p->keys[pfn] & KEY_CHANGED) << 6 | p->states[pfn]]
				  >> KIND_SHIFT & KIND_MASK;
	}
	return 0;
}

/* Release entries, from number used on; how many there are then, or -1. */
static Py_ssize_t release(const struct pass *p, const struct rest *rest, size_t used)
{
	for (size_t i = 0; i < rest->released; i++) {
		uint32_t pfn = rest->release[i], slot = p->location[pfn];
		uint32_t *entry = p->entries + used * ENTRY_SIZE;

		if (slot >= p->slot_end)
			return -1;
		if (!slot)
			continue;
		entry[0] = pfn;
		entry[1] = slot;
		entry[2] = p->generations[slot];
		used++;
		if (!p->keeps_slot)
			p->location[pfn] = 0;
	}
	return used;
}

static int check(const Py_buffer *views)
{
	for (int i = 0; i < BUFFERS; i++) {
		Py_ssize_t size = expected[i].size;

		if (views[i].len % size || views[i].len < size * expected[i].at_least) {
			PyErr_Format(PyExc_ValueError, "%s holds %zd bytes; it must hold at least %zd "
				     "items of %zd bytes", expected[i].name, views[i].len,
				     expected[i].at_least, size);
			return -1;
		}
	}
	if (views[PFNS].len / 4 != views[ORCS].len || views[RESULT].len != views[ORCS].len) {
		PyErr_SetString(PyExc_ValueError, "orcs, pfns and result must be equally long");
		return -1;
	}
	if (views[KEYS].len != views[STATES].len || views[LOCATION].len / 4 != views[STATES].len) {
		PyErr_SetString(PyExc_ValueError, "states, keys and location must be equally long");
		return -1;
	}
	return 0;
}

static PyObject *run(const Py_buffer *views, size_t index, int keeps_slot)
{
	const struct pass pass = {
		.orcs = views[ORCS].buf,
		.keys = views[KEYS].buf,
		.table = views[TABLE].buf,
		.pfns = views[PFNS].buf,
		.generations = views[GENERATIONS].buf,
		.result = views[RESULT].buf,
		.states = views[STATES].buf,
		.kinds = views[KINDS].buf,
		.location = views[LOCATION].buf,
		.entries = views[ENTRIES].buf,
		.counts = views[COUNTS].buf,
		.length = views[ORCS].len,
		.page_count = views[STATES].len,
		.frame_end = views[KINDS].len,
		.slot_end = views[GENERATIONS].len / 2,
		.room = views[ENTRIES].len / (4 * ENTRY_SIZE),
		.keeps_slot = keeps_slot,
	};
	struct rest rest;
	size_t begin, end, used = 0;

	do {
		begin = index;
		end = Py_MIN(pass.length, begin + Py_MIN(BLOCK, pass.room - used));
		index = transitions(&pass, begin, end, &rest);
		Py_ssize_t got = release(&pass, &rest, used);

		if (got < 0 || note_kinds(&pass, &rest)) {
			PyErr_SetString(PyExc_SystemError, "a page's frame or slot does not exist");
			return NULL;
		}
		used = got;
	} while (index > begin && index == end);
	return Py_BuildValue("nn", (Py_ssize_t)index, (Py_ssize_t)used);
}

PyDoc_STRVAR(run_doc,
"run(start, keeps_slot, orcs, pfns, result, counts, states, keys, location, kinds, generations,\n"
"    entries, table) -> (end, used)\n\n"
"Execute elements from start to before end and write used release entries. Atomic: it holds\n"
"the interpreter. Raises ValueError for buffers that do not fit together, nothing changed, and\n"
"SystemError for a page whose place is outside them.");

static PyObject *py_run(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
	Py_buffer views[BUFFERS];
	PyObject *answer = NULL;
	Py_ssize_t begin;
	int keeps_slot, got;

	(void)module;
	if (nargs != BUFFERS + 2)
		return PyErr_Format(PyExc_TypeError, "run takes %d arguments", BUFFERS + 2);
	begin = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
	if (begin == -1 && PyErr_Occurred())
		return NULL;
	if (begin < 0)
		return PyErr_Format(PyExc_ValueError, "start is %zd; it must be at least 0", begin);
	keeps_slot = PyObject_IsTrue(args[1]);
	if (keeps_slot < 0)
		return NULL;
	for (got = 0; got < BUFFERS; got++) {
		int flags = expected[got].writable ? PyBUF_WRITABLE : PyBUF_SIMPLE;

		if (PyObject_GetBuffer(args[got + 2], &views[got], flags))
			break;
	}
	if (got == BUFFERS && !check(views))
		answer = run(views, (size_t)begin, keeps_slot);
	while (got--)
		PyBuffer_Release(&views[got]);
	return answer;
}

PyDoc_STRVAR(free_doc,
"free(entries, generations, slots) -> None\n\n"
"Let go of the slots that release entries name, and list them. Atomic: it holds the\n"
"interpreter. Raises ValueError for buffers that do not fit together, nothing changed, and\n"
"SystemError for a slot that does not exist or is free already.");

static int free_slots(const Py_buffer *entries, const Py_buffer *generations,
		      const Py_buffer *slots)
{
	const uint32_t *entry = entries->buf;
	uint16_t *generation = generations->buf;
	uint32_t *out = slots->buf;
	size_t count = slots->len / sizeof(*out), end = generations->len / sizeof(*generation);

	if (slots->len % sizeof(*out) || (size_t)entries->len != count * ENTRY_SIZE * sizeof(*entry)) {
		PyErr_SetString(PyExc_ValueError, "entries must hold three numbers for each of slots");
		return -1;
	}
	for (size_t i = 0; i < count; i++) {
		uint32_t slot = entry[i * ENTRY_SIZE + 1];

		if (slot >= end || !(generation[slot] & 1)) {
			PyErr_Format(PyExc_SystemError, "slot %u is not held", slot);
			return -1;
		}
		generation[slot]++;
		out[i] = slot;
	}
	return 0;
}

static PyObject *py_free(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
	static const int flags[] = { PyBUF_SIMPLE, PyBUF_WRITABLE, PyBUF_WRITABLE };
	Py_buffer views[3];
	int got, failed = 1;

	(void)module;
	if (nargs != 3)
		return PyErr_Format(PyExc_TypeError, "free takes 3 arguments");
	for (got = 0; got < 3; got++)
		if (PyObject_GetBuffer(args[got], &views[got], flags[got]))
			break;
	if (got == 3)
		failed = free_slots(&views[0], &views[1], &views[2]);
	while (got--)
		PyBuffer_Release(&views[got]);
	if (failed)
		return NULL;
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{ "run", (PyCFunction)(void (*)(void))py_run, METH_FASTCALL, run_doc },
	{ "free", (PyCFunction)(void (*)(void))py_free, METH_FASTCALL, free_doc },
	{ NULL, NULL, 0, NULL },
};

static struct PyModuleDef module = {
	.m_base = PyModuleDef_HEAD_INIT,
	.m_name = "_essa_pass",
	.m_doc = "Many pages in one go; see essa_array.py and release.py.",
	.m_size = -1,
	.m_methods = methods,
};

PyMODINIT_FUNC PyInit__essa_pass(void)
{
	return PyModule_Create(&module);
}
