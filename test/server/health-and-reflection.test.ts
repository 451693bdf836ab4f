/** Tests the two standard services, which are the same on both doors. */
import { once } from "node:events";
import { create, createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  Health,
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus as Status,
} from "#gen/grpc/health/v1/health_pb.js";
import { ServerReflection, ServerReflectionRequestSchema } from "#gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionV1Alpha } from "#gen/grpc/reflection/v1alpha/reflection_pb.js";
import { AdminService } from "#gen/leasehold/v1/admin_pb.js";
import { LeaseService } from "#gen/leasehold/v1/lease_pb.js";
import { NativeClient } from "./native-client.ts";
import { seenError, seenReason } from "./seen-error.ts";
import { startTestServer, type TestServer } from "./test-server.ts";

let testServer: TestServer;
let native: NativeClient;

beforeAll(async () => {
  testServer = await startTestServer();
  native = new NativeClient(testServer.grpcAddress);
});

afterAll(async () => {
  native[Symbol.dispose]();
  await testServer[Symbol.asyncDispose]();
});

describe("health", () => {
  test("is told of the server and of each service, and an unknown one is NOT_FOUND", async () => {
    const connect = createClient(Health, createConnectTransport({ baseUrl: testServer.httpUrl, httpVersion: "1.1" }));
    for (const service of ["", LeaseService.typeName]) {
      expect(await native.unary(Health.method.check, { service })).toMatchObject({ status: Status.SERVING });
      expect(await connect.check({ service })).toMatchObject({ status: Status.SERVING });
    }
    const { statuses } = await connect.list({});
    expect(Object.keys(statuses)).toEqual(["", LeaseService.typeName]);
    const expected = await seenError(native.unary(Health.method.check, { service: "none" }));
    expect(expected).toMatchObject({ code: Code.NotFound });
    expect(await seenError(connect.check({ service: "none" }))).toEqual(expected);
  });

  test("is watched through its changes, and the watch ends with the server", async () => {
    await using server = await startTestServer();
    using own = new NativeClient(server.grpcAddress);
    const connect = createClient(Health, createGrpcTransport({ baseUrl: server.httpUrl }));
    const nativeTold: Status[] = [];
    const watched = own.serverStream(Health.method.watch, {}).on("data", ({ status }) => nativeTold.push(status));
    const nativeEnd = once(watched, "end");
    const connectTold: Status[] = [];
    const connectEnd = (async () => {
      for await (const { status } of connect.watch({})) connectTold.push(status);
    })();
    const told = async (...statuses: Status[]) => {
      await expect.poll(() => [nativeTold, connectTold]).toEqual([statuses, statuses]);
    };
    await told(Status.SERVING);
    server.server.setServing(false);
    await told(Status.SERVING, Status.NOT_SERVING);
    server.server.setServing(true);
    await told(Status.SERVING, Status.NOT_SERVING, Status.SERVING);
    const drained = server.server.drain(60_000);
    for (const end of [nativeEnd, connectEnd]) {
      expect(await seenReason(end)).toBe("DRAINING");
    }
    await told(Status.SERVING, Status.NOT_SERVING, Status.SERVING, Status.NOT_SERVING);
    await drained;
  });

  test("of an unknown service is watched as SERVICE_UNKNOWN", async () => {
    const stream = native.serverStream(Health.method.watch, create(HealthCheckRequestSchema, { service: "none" }));
    for await (const { status } of stream) {
      expect(status).toBe(Status.SERVICE_UNKNOWN);
      break;
    }
  });
});

describe("reflection", () => {
  type Answer = { messageResponse: { case: string | undefined; value?: unknown } };

  /** Asks over the native door. */
  async function ask(question: Parameters<typeof create<typeof ServerReflectionRequestSchema>>[1]): Promise<Answer> {
    const stream = native.bidiStream(ServerReflection.method.serverReflectionInfo);
    stream.end(create(ServerReflectionRequestSchema, question));
    for await (const answer of stream) return answer as Answer;
    return expect.fail("no answer");
  }

  function filesOf({ messageResponse }: Answer) {
    expect(messageResponse.case).toBe("fileDescriptorResponse");
    const { fileDescriptorProto } = messageResponse.value as { fileDescriptorProto: Uint8Array[] };
    return fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
  }

  test("lists all services, in both versions and on both doors", async () => {
    const expected = {
      case: "listServicesResponse",
      value: {
        service: [
          "grpc.health.v1.Health",
          "grpc.reflection.v1.ServerReflection",
          "grpc.reflection.v1alpha.ServerReflection",
          "leasehold.v1.LeaseService",
        ].map((name) => ({ name })),
      },
    };
    expect((await ask({ messageRequest: { case: "listServices", value: "*" } })).messageResponse).toMatchObject(
      expected,
    );
    const transport = createGrpcTransport({ baseUrl: testServer.httpUrl });
    const request = { messageRequest: { case: "listServices" as const, value: "*" } };
    const requests = async function* () {
      yield request;
    };
    for await (const answer of createClient(ServerReflection, transport).serverReflectionInfo(requests())) {
      expect(answer.messageResponse).toMatchObject(expected);
    }
    for await (const answer of createClient(ServerReflectionV1Alpha, transport).serverReflectionInfo(requests())) {
      expect(answer.messageResponse).toMatchObject(expected);
    }
  });

  test("gives a file with all it imports, from which a client builds the service", async () => {
    for (const symbol of [
      "leasehold.v1.LeaseService",
      "leasehold.v1.LeaseService.GetLease",
      "leasehold.v1.Lease.State",
    ]) {
      const files = filesOf(await ask({ messageRequest: { case: "fileContainingSymbol", value: symbol } }));
      expect(files[0]?.name).toBe("leasehold/v1/lease.proto");
      const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: importsFirst(files) }));
      expect(registry.getService("leasehold.v1.LeaseService")?.methods.map(({ name }) => name)).toEqual(
        LeaseService.methods.map(({ name }) => name),
      );
    }
    const [file] = filesOf(
      await ask({ messageRequest: { case: "fileByFilename", value: "buf/validate/validate.proto" } }),
    );
    expect(file?.package).toBe("buf.validate");
  });

  test("finds extensions, so that the rules of fields can be read", async () => {
    const containingType = "google.protobuf.FieldOptions";
    const numbers = await ask({ messageRequest: { case: "allExtensionNumbersOfType", value: containingType } });
    expect(numbers.messageResponse.value).toMatchObject({ baseTypeName: containingType });
    expect((numbers.messageResponse.value as { extensionNumber: number[] }).extensionNumber).toContain(1159);
    const [file] = filesOf(
      await ask({
        messageRequest: { case: "fileContainingExtension", value: { containingType, extensionNumber: 1159 } },
      }),
    );
    expect(file?.name).toBe("buf/validate/validate.proto");
  });

  test("says what it does not know, and goes on", async () => {
    const stream = native.bidiStream(ServerReflection.method.serverReflectionInfo);
    for (const value of ["no.such.Symbol", "leasehold.v1.LeaseService"]) {
      stream.write(create(ServerReflectionRequestSchema, { messageRequest: { case: "fileContainingSymbol", value } }));
    }
    stream.end();
    const cases: unknown[] = [];
    for await (const { messageResponse } of stream) cases.push([messageResponse.case, messageResponse.value]);
    expect(cases).toMatchObject([
      ["errorResponse", { errorCode: 5 }],
      ["fileDescriptorResponse", {}],
    ]);
  });

  test("does not tell of services that are not on its listener", async () => {
    expect(
      (await ask({ messageRequest: { case: "fileContainingSymbol", value: AdminService.typeName } })).messageResponse
        .case,
    ).toBe("errorResponse");
  });
});

/** In an order in which a registry can be built. */
function importsFirst(files: readonly FileDescriptorProto[]): FileDescriptorProto[] {
  const ordered = new Set<FileDescriptorProto>();
  const add = (file: FileDescriptorProto) => {
    for (const name of file.dependency) add(files.find((other) => other.name === name) ?? expect.fail(name));
    ordered.add(file);
  };
  files.forEach(add);
  return [...ordered];
}
