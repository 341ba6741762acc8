/*
 * Many pages in one go. `run` is one pass over an array of ESSAs: what essa.perform does to a page without flags, for as many
 * elements in a row as need no more than that.
 *
 * Rules:
 * - No transition stands here: the tables of tables.py come in as bytes.
 * - An element that needs more (flags, an exception, a list that only release.py can drain and
 *   that is full) ends the pass. What went before is done, it and what comes after are not.
 * - Of a long array the elements are executed without the interpreter: gRPC's threads get at it
 *   meanwhile, and what they have ready is there when the loop asks. What is written to belongs
 *   to the core, which one thread alone ever enters.
 * - A block's states come first, then what hangs on some of them: most pages' places are of no
 *   interest, and not worth a line of the cache each.
 * - Time goes into instructions first, and into lines of the cache next: the loop over the
 *   elements is as short as it can be, and everything else is done for those that need it.
 *
 * `free` drains a release list whose entries alone hold their slots.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum {
	STATE_MASK = 0x0f,
	KEY_CHANGED = 0x02,
	ORC_COUNT = 7,
	ROW = 32,		/* entries of an orc: 16 states, change bit clear, then set */
	CHANGED = 16 / KEY_CHANGED,
	KIND_SHIFT = 8,
	KIND_MASK = 0x7f,
	GOES_ON = 15,		/* the bit of an entry that changes more than the state */
	ENTRY_SIZE = 3,		/* pfn, slot, generation */
	LIST_MAX = 511,		/* RELEASE_LIST_MAX */
	COUNT_BITS = 9,		/* seven counts in a register */
	BLOCK = (1 << COUNT_BITS) - 1,
	LONG = 4096,		/* elements for which it pays to let other threads run */
};

enum { ORCS, PFNS, LISTED, STATES, KEYS, LOCATION, KINDS, GENERATIONS, TABLE, BUFFERS };

static const struct {
	const char *name;
	int writable;
	Py_ssize_t size;	/* of one item */
	Py_ssize_t at_least;	/* items */
} expected[BUFFERS] = {
	[ORCS] = { "orcs", 0, 1, 0 },
	[PFNS] = { "pfns", 0, 4, 0 },
	[LISTED] = { "listed", 0, 4 * ENTRY_SIZE, 0 },
	[STATES] = { "states", 1, 1, 0 },
	[KEYS] = { "keys", 0, 1, 0 },
	[LOCATION] = { "location", 1, 4, 0 },
	[KINDS] = { "kinds", 1, 1, 1 },
	[GENERATIONS] = { "generations", 1, 2, 1 },
	[TABLE] = { "table", 0, 2, ORC_COUNT * ROW },
};

struct pass {
	const uint8_t *orcs, *keys;
	const char *pfns;	/* off the wire: little endian, and perhaps not aligned */
	const uint16_t *table;
	uint16_t *generations;
	uint8_t *result, *states, *kinds;
	uint32_t *location;
	uint64_t *counts;
	size_t length, page_count, frame_end, slot_end;
	int keeps_slot;		/* until the entry is processed */
	int drains;		/* a full list, whose entries alone hold their slots */
};

/* One vCPU's release list, and the slots that were freed when it was full. */
struct list {
	size_t used, freed_count;
	uint32_t *freed;
	uint32_t entries[LIST_MAX * ENTRY_SIZE];
};

/* The elements of a block that change more than a state. */
struct rest {
	size_t count;
	uint32_t pfns[BLOCK];
	uint16_t entries[BLOCK];	/* whose kind is 0: the page gives up its slot, if it holds one */
};

/*
 * The first element not executed, at most end.
 *
 * No branch depends on a page's state: states are random to the processor, and a branch that it
 * guesses wrong costs as much as three elements. A function of its own, so that the loop has
 * the registers to itself.
 */
static __attribute__((noinline)) size_t transitions(const struct pass *p, size_t begin, size_t end,
						    struct rest *rest)
{
	/* Bytes may alias anything, so the compiler has to be told that these do not. */
	const uint8_t *restrict orcs = p->orcs + begin, *restrict keys = p->keys;
	const char *restrict pfns = p->pfns + begin * sizeof(uint32_t);
	const uint16_t *restrict table = p->table;
	uint8_t *restrict result = p->result + begin, *restrict states = p->states;
	const size_t page_count = p->page_count, length = end - begin;
	uint64_t ones[ORC_COUNT], counted = 0;
	size_t index, count = 0;

	for (int orc = 0; orc < ORC_COUNT; orc++)
		ones[orc] = (uint64_t)1 << orc * COUNT_BITS;
	for (index = 0; index < length; index++) {
		size_t orc = orcs[index], before, entry;
		uint32_t pfn;

		memcpy(&pfn, pfns + index * sizeof(pfn), sizeof(pfn));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
		pfn = __builtin_bswap32(pfn);
#endif
		if (orc >= ORC_COUNT || pfn >= page_count)
			break;
		before = states[pfn];
		if (before > STATE_MASK)
			break;
		entry = table[orc * ROW + (size_t)(keys[pfn] & KEY_CHANGED) * CHANGED + before];
		states[pfn] = (uint8_t)entry;
		result[index] = (uint8_t)before;
		counted += ones[orc];
		rest->pfns[count] = pfn;
		rest->entries[count] = (uint16_t)entry;
		count += entry >> GOES_ON;
	}
	for (int orc = 0; orc < ORC_COUNT; orc++)
		p->counts[orc] += counted >> orc * COUNT_BITS & BLOCK;
	rest->count = count;
	return begin + index;
}

/* What has gone wrong where the interpreter is not held. */
struct failure {
	enum { NONE, NO_PLACE, NOT_HELD, NO_MEMORY } kind;
	uint32_t slot;
};

static const struct failure none = { NONE, 0 }, no_place = { NO_PLACE, 0 }, no_memory = { NO_MEMORY, 0 };

/* Whether it is one: then it is raised. */
static int raised(struct failure failure)
{
	switch (failure.kind) {
	case NONE:
		return 0;
	case NO_PLACE:
		PyErr_SetString(PyExc_SystemError, "a page's frame or slot does not exist");
		break;
	case NOT_HELD:
		PyErr_Format(PyExc_SystemError, "slot %u is not held", failure.slot);
		break;
	case NO_MEMORY:
		PyErr_NoMemory();
	}
	return 1;
}

/* Let go of the slots that so many entries name, and list them in out. */
static struct failure free_slots(const uint32_t *entry, size_t count, uint16_t *generations,
			       size_t slot_end, uint32_t *out)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t slot = entry[i * ENTRY_SIZE + 1];

		if (slot >= slot_end || !(generations[slot] & 1))
			return (struct failure){ NOT_HELD, slot };
		generations[slot]++;
		out[i] = slot;
	}
	return none;
}

static struct failure drain(const struct pass *p, struct list *list)
{
	size_t count = list->freed_count + list->used;
	uint32_t *freed = PyMem_RawRealloc(list->freed, count * sizeof(*freed));
	struct failure failure;

	if (!freed)
		return no_memory;
	list->freed = freed;
	failure = free_slots(list->entries, list->used, p->generations, p->slot_end,
			     freed + list->freed_count);
	list->freed_count = count;
	list->used = 0;
	return failure;
}

/* Put a page's slot, if it holds one, on the list, which has room for it. */
static struct failure release(const struct pass *p, uint32_t pfn, struct list *list)
{
	uint32_t *entry = list->entries + list->used * ENTRY_SIZE, slot = p->location[pfn];

	if (slot >= p->slot_end)
		return no_place;
	if (!slot)
		return none;
	entry[0] = pfn;
	entry[1] = slot;
	entry[2] = p->generations[slot];
	if (!p->keeps_slot)
		p->location[pfn] = 0;
	return ++list->used == LIST_MAX && p->drains ? drain(p, list) : none;
}

/* Note the kinds of frames, and give up slots, in the order of the elements. */
static struct failure see_to(const struct pass *p, struct rest *rest, struct list *list)
{
	struct failure failure = none;
	size_t released = 0;

	for (size_t i = 0; i < rest->count; i++)
		__builtin_prefetch(&p->location[rest->pfns[i]]);
	for (size_t i = 0; i < rest->count; i++) {
		uint32_t pfn = rest->pfns[i], place = p->location[pfn];
		uint8_t kind = rest->entries[i] >> KIND_SHIFT & KIND_MASK;
		/* No branch here either: there is no frame 0, and its kind is 0 for good. */
		uint32_t frame = kind ? place : 0;

		if (frame >= p->frame_end)
			return no_place;
		p->kinds[frame] = kind;
		rest->pfns[released] = pfn;
		released += !kind;
	}
	for (size_t i = 0; i < released && !failure.kind; i++)
		failure = release(p, rest->pfns[i], list);
	return failure;
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
	if (views[PFNS].len / 4 != views[ORCS].len) {
		PyErr_SetString(PyExc_ValueError, "orcs and pfns must be equally long");
		return -1;
	}
	if (views[LISTED].len / (4 * ENTRY_SIZE) >= LIST_MAX) {
		PyErr_SetString(PyExc_ValueError, "listed is full");
		return -1;
	}
	if (views[KEYS].len != views[STATES].len || views[LOCATION].len / 4 != views[STATES].len) {
		PyErr_SetString(PyExc_ValueError, "states, keys and location must be equally long");
		return -1;
	}
	return 0;
}

/* Add what was executed, by orc, to a list of ints. */
static int add_counts(PyObject *list, const uint64_t *counts)
{
	for (Py_ssize_t orc = 0; orc < ORC_COUNT; orc++) {
		unsigned long long before;
		PyObject *after;

		if (!counts[orc])
			continue;
		before = PyLong_AsUnsignedLongLong(PyList_GET_ITEM(list, orc));
		if (before == (unsigned long long)-1 && PyErr_Occurred())
			return -1;
		after = PyLong_FromUnsignedLongLong(before + counts[orc]);
		if (!after || PyList_SetItem(list, orc, after))
			return -1;
	}
	return 0;
}

/* Execute elements; done: how many. */
static struct failure blocks(const struct pass *p, struct list *list, size_t *done)
{
	struct rest rest;
	struct failure failure;
	size_t index = 0, begin, end;

	do {
		size_t room = p->drains ? BLOCK : LIST_MAX - list->used;

		begin = index;
		end = Py_MIN(p->length, begin + Py_MIN(BLOCK, room));
		index = transitions(p, begin, end, &rest);
		failure = see_to(p, &rest, list);
	} while (!failure.kind && index > begin && index == end);
	*done = index;
	return failure;
}

static PyObject *run(const Py_buffer *views, Py_ssize_t start, int keeps_slot, int drains,
		     PyObject *count_list)
{
	Py_ssize_t first = Py_MIN(start, views[ORCS].len), length = views[ORCS].len - first;
	PyObject *result = PyBytes_FromStringAndSize(NULL, length), *answer = NULL;
	size_t listed = views[LISTED].len / (4 * ENTRY_SIZE), done;
	uint64_t counts[ORC_COUNT] = { 0 };
	PyThreadState *others = NULL;
	struct failure failure;
	struct list list;

	if (!result)
		return NULL;
	const struct pass pass = {
		.orcs = (const uint8_t *)views[ORCS].buf + first,
		.keys = views[KEYS].buf,
		.table = views[TABLE].buf,
		.pfns = (const char *)views[PFNS].buf + first * 4,
		.generations = views[GENERATIONS].buf,
		.result = (uint8_t *)PyBytes_AS_STRING(result),
		.states = views[STATES].buf,
		.kinds = views[KINDS].buf,
		.location = views[LOCATION].buf,
		.counts = counts,
		.length = length,
		.page_count = views[STATES].len,
		.frame_end = views[KINDS].len,
		.slot_end = views[GENERATIONS].len / 2,
		.keeps_slot = keeps_slot,
		.drains = drains,
	};
	memcpy(list.entries, views[LISTED].buf, views[LISTED].len);
	list.used = listed;
	list.freed = NULL;
	list.freed_count = 0;
	if (length >= LONG)
		others = PyEval_SaveThread();
	failure = blocks(&pass, &list, &done);
	if (others)
		PyEval_RestoreThread(others);
	if (!raised(failure) && !add_counts(count_list, counts) &&
	    (done == pass.length || !_PyBytes_Resize(&result, done))) {
		const char *entries = list.used == listed && !list.freed ? NULL : (char *)list.entries;

		answer = Py_BuildValue("Oy#y#", result, entries,
				       (Py_ssize_t)(list.used * ENTRY_SIZE * 4),
				       (const char *)list.freed, (Py_ssize_t)(list.freed_count * 4));
	}
	PyMem_RawFree(list.freed);
	Py_XDECREF(result);
	return answer;
}

PyDoc_STRVAR(run_doc,
"run(start, keeps_slot, drains, counts, orcs, pfns, listed, states, keys, location, kinds,\n"
"    generations, table) -> (result, entries, freed)\n\n"
"Execute elements from start on: their result bytes, the release list that was listed as it is\n"
"now or None if it is the same, and None or the slots that were freed because it was full.\n"
"Other threads may run meanwhile, so the buffers must be the caller's thread's alone. Raises\n"
"ValueError for buffers that do not fit together, nothing changed, and SystemError for a page\n"
"whose place is outside them or a slot that is free.");

static PyObject *py_run(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
	enum { START, KEEPS_SLOT, DRAINS, COUNTS, FIRST_BUFFER, ARGUMENTS = FIRST_BUFFER + BUFFERS };
	Py_buffer views[BUFFERS];
	PyObject *answer = NULL;
	Py_ssize_t begin;
	int keeps_slot, drains, got;

	(void)module;
	if (nargs != ARGUMENTS)
		return PyErr_Format(PyExc_TypeError, "run takes %d arguments", ARGUMENTS);
	begin = PyNumber_AsSsize_t(args[START], PyExc_OverflowError);
	if (begin == -1 && PyErr_Occurred())
		return NULL;
	if (begin < 0)
		return PyErr_Format(PyExc_ValueError, "start is %zd; it must be at least 0", begin);
	keeps_slot = PyObject_IsTrue(args[KEEPS_SLOT]);
	drains = PyObject_IsTrue(args[DRAINS]);
	if (keeps_slot < 0 || drains < 0)
		return NULL;
	if (!PyList_Check(args[COUNTS]) || PyList_GET_SIZE(args[COUNTS]) < ORC_COUNT)
		return PyErr_Format(PyExc_ValueError, "counts must be a list of %d", ORC_COUNT);
	for (got = 0; got < BUFFERS; got++) {
		int flags = expected[got].writable ? PyBUF_WRITABLE : PyBUF_SIMPLE;

		if (PyObject_GetBuffer(args[FIRST_BUFFER + got], &views[got], flags))
			break;
	}
	if (got == BUFFERS && !check(views))
		answer = run(views, begin, keeps_slot, drains, args[COUNTS]);
	while (got--)
		PyBuffer_Release(&views[got]);
	return answer;
}

PyDoc_STRVAR(free_doc,
"free(entries, generations, slots) -> None\n\n"
"Let go of the slots that release entries name, and list them. Atomic: it holds the\n"
"interpreter. Raises ValueError for buffers that do not fit together, nothing changed, and\n"
"SystemError for a slot that does not exist or is free already.");

static PyObject *py_free(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
	enum { NAMED, HELD, SLOTS, ARGUMENTS };
	static const int flags[] = { PyBUF_SIMPLE, PyBUF_WRITABLE, PyBUF_WRITABLE };
	Py_buffer views[ARGUMENTS];
	int got, failed = 1;

	(void)module;
	if (nargs != ARGUMENTS)
		return PyErr_Format(PyExc_TypeError, "free takes %d arguments", ARGUMENTS);
	for (got = 0; got < ARGUMENTS; got++)
		if (PyObject_GetBuffer(args[got], &views[got], flags[got]))
			break;
	if (got == ARGUMENTS) {
		size_t count = views[SLOTS].len / 4;

		if (views[SLOTS].len % 4 || (size_t)views[NAMED].len != count * ENTRY_SIZE * 4)
			PyErr_SetString(PyExc_ValueError,
					"entries must hold three numbers for each of slots");
		else
			failed = raised(free_slots(views[NAMED].buf, count, views[HELD].buf,
						   views[HELD].len / 2, views[SLOTS].buf));
	}
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
