/* The yardstick of benches/reading.rs: reads every page of a relation through the buffer manager, a bulk-read
 * ring and a share lock for each, and does nothing else with it; or makes a copy of it, which a reader that holds
 * no lock while it thinks cannot do without. */
#include "postgres.h"

#include "access/relation.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(read_pages);

Datum
read_pages(PG_FUNCTION_ARGS)
{
	Relation	relation = relation_open(PG_GETARG_OID(0), AccessShareLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(relation);
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKREAD);
	PGAlignedBlock page;
	bool		copy = PG_GETARG_BOOL(1);
	int64		sum = 0;

	for (BlockNumber block = 0; block < blocks; block++)
	{
		Buffer		buffer;

		CHECK_FOR_INTERRUPTS();
		buffer = ReadBufferExtended(relation, MAIN_FORKNUM, block, RBM_NORMAL, strategy);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		if (copy)
			memcpy(page.data, BufferGetPage(buffer), BLCKSZ);
		UnlockReleaseBuffer(buffer);
		/* So that the copy is made. */
		__asm__ volatile ("" : : "r" (page.data) : "memory");
		sum += page.data[BLCKSZ - 1];
	}
	FreeAccessStrategy(strategy);
	relation_close(relation, AccessShareLock);
	PG_RETURN_INT64(sum);
}
