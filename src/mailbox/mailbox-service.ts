/** MailboxService: messages are dropped into mailboxes by whoever holds the token, and handed to the owner. */
import type { MailboxService } from "#gen/leasehold/v1/mailbox_pb.js";
import { formatId } from "../ids/ids.ts";
import type { ServiceImplementation } from "../server/service-implementation.ts";
import { DropTokenRotation } from "./drop-token-rotation.ts";
import type { MailboxServiceOptions } from "./mailbox-options.ts";
import { receiveMethods } from "./receive-methods.ts";
import { webhookMethods } from "./webhook-methods.ts";

/** The methods of MailboxService. */
export function mailboxService(options: MailboxServiceOptions): ServiceImplementation<typeof MailboxService> {
  const { callers, drops } = options;
  const rotation = new DropTokenRotation(options);
  return {
    ...receiveMethods(options),
    ...webhookMethods(options),

    async dropMessage(request) {
      const { messageId, sequence } = await drops.drop(request);
      return { messageId: formatId("msg", messageId), sequence };
    },

    async rotateDropToken(request, call) {
      return await rotation.rotate(await callers.of(call), request);
    },
  };
}
