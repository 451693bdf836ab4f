/** grpc.reflection, the same for both doors, so that `grpcurl` and `buf curl` need no schema. */
import { type DescExtension, type DescFile, type DescService, toBinary } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { ServerReflection, type ServerReflectionRequest } from "#gen/grpc/reflection/v1/reflection_pb.js";
import {
  type ServerReflectionRequest as ServerReflectionRequestV1Alpha,
  ServerReflection as ServerReflectionV1Alpha,
} from "#gen/grpc/reflection/v1alpha/reflection_pb.js";
import { type MountedService, mountService } from "./service-implementation.ts";

/** Describes services and itself. v1alpha has the same messages, and is what older tools ask for first. */
export function mountReflection(services: readonly DescService[]): readonly MountedService[] {
  const schema = new ReflectedSchema([...services, ServerReflection, ServerReflectionV1Alpha]);
  return [
    mountService(ServerReflection, {
      async *serverReflectionInfo(requests: AsyncIterable<ServerReflectionRequest>) {
        const sent = new Set<DescFile>();
        for await (const request of requests) {
          const messageResponse = schema.answer(request.messageRequest, sent);
          yield { validHost: request.host, originalRequest: request, messageResponse };
        }
      },
    }),
    mountService(ServerReflectionV1Alpha, {
      async *serverReflectionInfo(requests: AsyncIterable<ServerReflectionRequestV1Alpha>) {
        const sent = new Set<DescFile>();
        for await (const request of requests) {
          const messageResponse = schema.answer(request.messageRequest, sent);
          yield { validHost: request.host, originalRequest: request, messageResponse };
        }
      },
    }),
  ];
}

/** A question, of either version. */
type Question = (ServerReflectionRequest | ServerReflectionRequestV1Alpha)["messageRequest"];

/** An answer, for either version. */
type Answer =
  | { case: "fileDescriptorResponse"; value: { fileDescriptorProto: Uint8Array[] } }
  | { case: "allExtensionNumbersResponse"; value: { baseTypeName: string; extensionNumber: number[] } }
  | { case: "listServicesResponse"; value: { service: { name: string }[] } }
  | { case: "errorResponse"; value: { errorCode: number; errorMessage: string } };

/** The schema of a set of services, found by name. */
class ReflectedSchema {
  readonly #services: readonly string[];
  readonly #filesByName = new Map<string, DescFile>();
  readonly #filesBySymbol = new Map<string, DescFile>();
  readonly #extensions: DescExtension[] = [];

  constructor(services: readonly DescService[]) {
    this.#services = services.map((service) => service.typeName).sort();
    for (const service of services) {
      this.#add(service.file);
    }
  }

  /** Leaves out the imported files that `sent` names, and adds to it. */
  answer(question: Question, sent: Set<DescFile>): Answer {
    switch (question.case) {
      case "listServices":
        return { case: "listServicesResponse", value: { service: this.#services.map((name) => ({ name })) } };
      case "fileByFilename":
        return answerFile(this.#filesByName.get(nameOfProto(question.value)), sent);
      case "fileContainingSymbol":
        return answerFile(this.#filesBySymbol.get(question.value), sent);
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = question.value;
        const extension = this.#extensionsOf(containingType).find(({ number }) => number === extensionNumber);
        return answerFile(extension?.file, sent);
      }
      case "allExtensionNumbersOfType": {
        const baseTypeName = question.value;
        if (!this.#filesBySymbol.has(baseTypeName)) {
          return notFound;
        }
        const extensionNumber = this.#extensionsOf(baseTypeName).map(({ number }) => number);
        return { case: "allExtensionNumbersResponse", value: { baseTypeName, extensionNumber } };
      }
      case undefined:
        return refuse(status.INVALID_ARGUMENT, "Ask for something.");
    }
  }

  #extensionsOf(typeName: string): readonly DescExtension[] {
    return this.#extensions.filter((extension) => extension.extendee.typeName === typeName);
  }

  #add(file: DescFile): void {
    if (this.#filesByName.has(file.name)) {
      return;
    }
    this.#filesByName.set(file.name, file);
    for (const type of nestedTypes(file)) {
      this.#filesBySymbol.set(type.typeName, file);
      if (type.kind === "extension") {
        this.#extensions.push(type);
      } else if (type.kind === "service") {
        for (const method of type.methods) {
          this.#filesBySymbol.set(`${type.typeName}.${method.name}`, file);
        }
      }
    }
    for (const dependency of file.dependencies) {
      this.#add(dependency);
    }
  }
}

/** The file first, then what it imports that was not sent yet. */
function answerFile(file: DescFile | undefined, sent: Set<DescFile>): Answer {
  if (file === undefined) {
    return notFound;
  }
  // What is asked for is sent, even if it was sent before as an import of another.
  sent.delete(file);
  const files = [...listImports(file, sent)].map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto: files } };
}

function* listImports(file: DescFile, sent: Set<DescFile>): Generator<DescFile> {
  if (sent.has(file)) {
    return;
  }
  sent.add(file);
  yield file;
  for (const dependency of file.dependencies) {
    yield* listImports(dependency, sent);
  }
}

/** Descriptors of protobuf-es are named without the extension. */
function nameOfProto(fileName: string): string {
  return fileName.replace(/\.proto$/, "");
}

const notFound = refuse(status.NOT_FOUND, "There is no such file, symbol or extension.");

function refuse(errorCode: number, errorMessage: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}
